"""Options in the one form of all that set the same: names in full and in order, each custom option set at once."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from millstream.schemas.protobuf.linking import Extension, Linked, Type
from millstream.schemas.protobuf.nodes import Block, Field, Message, Option, Value, Word

_OTHER_BASES = re.compile(r"-?0(?:[xX][0-9a-fA-F]{1,16}|[0-7]{1,22})")
_WHOLE = re.compile(r"(-?[0-9]{1,18})\.0*")
# What is set of a message: single messages within it, lists of what repeats, and single values.
_Set: TypeAlias = "dict[str, _Set | list[Value] | Value]"


class OptionNormalizer:
    def __init__(self, linked: Linked) -> None:
        self._linked = linked
        self._fields: dict[Type, dict[str, Field]] = {}

    def of(self, options: Sequence[Option], scope: str) -> list[Option]:
        """The values that `options`, written in `scope`, set: `(a).b = 1` and `(a).c = 2` are `(a) = {b: 1, c: 2}`."""
        values: dict[str, list[Value]] = {}
        extensions: dict[str, Extension] = {}
        for option in options:
            name, value = option.name, option.value
            if name.startswith("("):
                name, value, found = self._custom(option, scope)
                if found is not None:
                    extensions[name] = found
            values.setdefault(name, []).append(value)
        return [
            Option(name, self._value(value, scope))
            for name in sorted(values)
            for value in self._together(values[name], extensions.get(name))
        ]

    def _custom(self, option: Option, scope: str) -> tuple[str, Value, Extension | None]:
        """A custom option's full name, its value as a whole, and what declares it."""
        name, _, path = option.name[1:].partition(")")
        value = option.value
        for part in reversed(path.split(".")[1:]):
            value = Block(((part, value),))
        found = self._linked.resolve_extension(name, scope)
        return f"({name if found is None else found.name})", value, found

    def _together(self, values: list[Value], extension: Extension | None) -> list[Value]:
        if extension is None or extension.node.label == "repeated":
            return values
        if not all(isinstance(value, Block) for value in values):
            return values[-1:]  # of single values the last one counts
        of = extension.home.resolve(extension.node.type, extension.name.rpartition(".")[0])
        whole: _Set = {}
        for value in values:
            assert isinstance(value, Block)
            self._merge(whole, value.entries, of)
        return [_block(whole)]

    def _merge(self, whole: _Set, entries: Iterable[tuple[str, Value]], of: Type | None) -> None:
        for key, value in entries:
            field = self._field(of, key)
            if field is None or of is None or field.label == "repeated" or field.key:
                repeated = whole.setdefault(key, [])
                if isinstance(repeated, list):
                    repeated += value if isinstance(value, list) else [value]
            elif isinstance(value, Block):
                inner = whole.setdefault(key, {})
                if isinstance(inner, dict):
                    self._merge(inner, value.entries, of.home.resolve(field.type, of.name))
            else:
                whole[key] = value

    def _field(self, of: Type | None, name: str) -> Field | None:
        if of is None or not isinstance(of.node, Message):
            return None
        if of not in self._fields:
            self._fields[of] = {field.name: field for field in of.node.all_fields()}
        return self._fields[of].get(name)

    def _value(self, value: Value, scope: str) -> Value:
        match value:
            case Block(entries):
                named = [(self._key(key, scope), self._value(of, scope)) for key, of in entries if of != []]
                return Block(tuple(sorted(named, key=lambda entry: entry[0])))
            case [only]:
                # One value and a list of one are the same to a field that repeats.
                return self._value(only, scope)
            case list():
                return [self._value(item, scope) for item in value]
            case Word(text) if _OTHER_BASES.fullmatch(text):
                return Word(str(int(text, 16 if "x" in text.lower() else 8)))
            case Word(text) if whole := _WHOLE.fullmatch(text):
                return Word(whole[1])
            case _:
                return value

    def _key(self, key: str, scope: str) -> str:
        found = self._linked.resolve_extension(key[1:-1], scope) if key.startswith("[") else None
        return key if found is None else f"[{found.name}]"


def _block(whole: _Set) -> Block:
    return Block(tuple((key, _block(value) if isinstance(value, dict) else value) for key, value in whole.items()))
