"""A schema together with those that it refers to, as one text that stands alone.

https://json-schema.org/draft/2020-12/json-schema-core#name-bundling
"""

from collections.abc import Sequence
from typing import Any

from millstream.schemas.json_schema import drafts
from millstream.schemas.json_schema.resolving import id_keyword


def bundle(tree: Any, referred: Sequence[tuple[str, Any]]) -> Any:
    """The schema, with everything that it refers to among its definitions, under the name by which it refers to it.

    >>> bundle({"$ref": "money.json"}, [("money.json", {"type": "number"})])
    {'$ref': 'money.json', 'definitions': {'money.json': {'$id': 'money.json', 'type': 'number'}}}
    """
    if not isinstance(tree, dict) or not referred:
        return tree
    draft = drafts.draft_of(tree)
    keyword = "$defs" if draft in drafts.MODERN or "$defs" in tree else "definitions"
    held = tree.get(keyword)
    definitions = dict(held) if isinstance(held, dict) else {}
    for name, other in referred:
        definitions.setdefault(name, _called(name, other, draft))
    return {**tree, keyword: definitions}


def _called(name: str, tree: Any, draft: str) -> dict[str, Any]:
    keyword = id_keyword(draft)
    if isinstance(tree, dict) and (draft in drafts.MODERN or "$ref" not in tree):
        return {keyword: name} | {key: held for key, held in tree.items() if key not in ("$id", "id", "$schema")}
    # Before 2019-09 an identifier beside a `$ref` means nothing, and a boolean has no room for one.
    return {keyword: name, "allOf": [tree]}
