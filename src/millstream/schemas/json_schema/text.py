"""JSON as text and back: numbers stay as they were written, since a schema's GUID is that of its text."""

import json
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from millstream.schemas.formats import InvalidSchema

MAX_NESTING = 250
"""The depth to which arrays and objects may be nested; deeper ones are no real schemas, and a parser's trouble."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def loads(text: str) -> Any:
    """The JSON in `text`, with a `Decimal` for what is written with a point or an exponent. Raises `InvalidSchema`."""
    try:
        tree = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidSchema("it is nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        raise InvalidSchema(f"it is not JSON: {error}") from None
    _check_nesting(tree)
    return tree


def dumps(tree: Any) -> str:
    """One line, keys in their order.

    >>> dumps(loads('{ "b": 1.50, "a": "é" }'))
    '{"b":1.50,"a":"é"}'
    """
    try:
        return _encoder.encode(tree).decode()
    except UnicodeEncodeError:
        raise InvalidSchema("it has half a character, a lone surrogate, which has no form in UTF-8") from None


def in_order(tree: Any) -> Any:
    """The same with the keys of all objects in alphabetical order.

    >>> in_order({"b": [{"d": 1, "c": 2}], "a": 0})
    {'a': 0, 'b': [{'c': 2, 'd': 1}]}
    """
    if isinstance(tree, dict):
        return {key: in_order(tree[key]) for key in sorted(tree)}
    if isinstance(tree, list):
        return [in_order(held) for held in tree]
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_nesting(tree: Any) -> None:
    level = [tree]
    for _ in range(MAX_NESTING):
        level = [held for outer in level if isinstance(outer, dict | list) for held in _held(outer)]
        if not level:
            return
    raise InvalidSchema(f"it is nested too deeply: more than {MAX_NESTING} arrays and objects in each other")


def _held(outer: dict[str, Any] | list[Any]) -> Any:
    return outer.values() if isinstance(outer, dict) else outer
