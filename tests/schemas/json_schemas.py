"""How tests make JSON Schemas."""

import json
from typing import Any

from millstream.schemas.formats import Referred
from millstream.schemas.json_schema.format import FORMAT, JsonSchema

DRAFTS = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}


def parse(tree: Any, *referred: tuple[str, Any], as_new: bool = True) -> JsonSchema:
    """The schema of a tree or a text, which may refer to other trees by name."""
    text = tree if isinstance(tree, str) else json.dumps(tree)
    return FORMAT.parse(text, [Referred(json.dumps(of), (name,)) for name, of in referred], as_new=as_new)
