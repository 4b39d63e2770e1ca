"""YAML of what JSON can hold: block style, and quotes wherever a plain word could mean something else."""

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_$/][A-Za-z0-9_./$+-]*(?: [A-Za-z0-9_./+-]+)*\Z")
_MEANS_MORE = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def to_yaml(value: Any) -> str:
    """The text, the same for the same value.

    >>> print(to_yaml({"name": "orders", "on": ["yes", 1, None], "empty": {}}), end="")
    name: orders
    "on":
      - "yes"
      - 1
      - null
    empty: {}
    """
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{indent}{_word(str(key))}:", inner, indent + "  ")
    elif isinstance(value, list) and value:
        for item in value:
            lines = list(_block(item, indent + "  "))
            if isinstance(item, dict | list) and item:
                yield f"{indent}- {lines[0].removeprefix(indent + '  ')}"
                yield from lines[1:]
            else:
                yield f"{indent}- {lines[0].strip()}"
    else:
        yield indent + _word(value)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _block(value, indent)
    elif isinstance(value, str) and _is_text(value):
        yield f"{head} |"
        yield from (indent + line if line else "" for line in value.removesuffix("\n").split("\n"))
    else:
        yield f"{head} {_word(value)}"


def _is_text(value: str) -> bool:
    """Several lines that come back as they were from a literal block."""
    body = value.removesuffix("\n")
    return (
        value.endswith("\n")
        and "\n" in body
        and not body.startswith((" ", "\n"))
        and not body.endswith("\n")
        and all(line.isprintable() and not line.endswith(" ") for line in body.split("\n"))
    )


def _word(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _MEANS_MORE:
        return value
    return json.dumps(value, ensure_ascii=False)
