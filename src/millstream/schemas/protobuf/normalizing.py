"""A file without what means nothing: the order of fields, how names are qualified, how a map is spelled."""

from collections.abc import Iterable
from dataclasses import replace

from millstream.schemas.protobuf.linking import Linked, within
from millstream.schemas.protobuf.nodes import (
    SCALARS,
    Enum,
    Extend,
    Field,
    File,
    Message,
    OneOf,
    Ranges,
    Service,
)
from millstream.schemas.protobuf.option_normalizing import OptionNormalizer


def normalized(linked: Linked) -> File:
    """The file in the form that all files have which mean the same.

    Messages and enums keep their order: Confluent's serializers number messages by it.
    """
    return _Normalizer(linked).file()


class _Normalizer:
    def __init__(self, linked: Linked) -> None:
        self._linked = linked
        self._options = OptionNormalizer(linked)

    def file(self) -> File:
        file, scope = self._linked.file, self._linked.file.package
        return replace(
            file,
            syntax="" if file.syntax == "proto2" else file.syntax,
            imports=sorted(set(file.imports)),
            public_imports=sorted(set(file.public_imports)),
            messages=[self._message(message, scope) for message in file.messages],
            enums=[self._enum(enum, scope) for enum in file.enums],
            extends=self._extends(file.extends, scope),
            services=[self._service(service, scope) for service in file.services],
            options=self._options.of(file.options, scope),
        )

    def _message(self, message: Message, outer: str) -> Message:
        scope = within(outer, message.name)
        oneofs = [self._oneof(oneof, scope) for oneof in message.oneofs if oneof.fields]
        return Message(
            message.name,
            self._fields(message.fields, scope),
            sorted(oneofs, key=lambda oneof: oneof.fields[0].number),
            [self._message(nested, scope) for nested in message.messages if not nested.is_map_entry],
            [self._enum(enum, scope) for enum in message.enums],
            self._options.of(message.options, scope),
            _sorted_ranges(message.reserved),
            _sorted_ranges(message.extensions),
            self._extends(message.extends, scope),
        )

    def _oneof(self, oneof: OneOf, scope: str) -> OneOf:
        return OneOf(oneof.name, self._fields(oneof.fields, scope), self._options.of(oneof.options, scope))

    def _fields(self, fields: Iterable[Field], scope: str) -> list[Field]:
        return sorted((self._field(field, scope) for field in fields), key=lambda field: field.number)

    def _field(self, field: Field, scope: str) -> Field:
        made = replace(field, options=self._options.of(field.options, scope))
        if field.group is not None:
            made.group = self._message(field.group, scope)
            return made
        found = None if field.key or field.type in SCALARS else self._linked.resolve(field.type, scope)
        if found is not None and isinstance(found.node, Message) and found.node.is_map_entry:
            parts = {part.name: part for part in found.node.fields}
            if {"key", "value"} <= parts.keys():
                made.label, made.key, made.type = "", parts["key"].type, parts["value"].type
        made.type = self._full(made.type, scope)
        return made

    def _extends(self, extends: Iterable[Extend], scope: str) -> list[Extend]:
        together: dict[str, list[Field]] = {}
        for extend in extends:
            together.setdefault(self._full(extend.type, scope), []).extend(extend.fields)
        return [Extend(name, self._fields(fields, scope)) for name, fields in together.items()]

    def _enum(self, enum: Enum, outer: str) -> Enum:
        scope = within(outer, enum.name)
        values = [replace(value, options=self._options.of(value.options, scope)) for value in enum.values]
        # In proto3 the first constant must be zero, which would not be so with negative ones before it.
        zero_first = self._linked.file.syntax == "proto3"
        return Enum(
            enum.name,
            sorted(values, key=lambda value: (zero_first and value.number < 0, value.number, value.name)),
            self._options.of(enum.options, scope),
            _sorted_ranges(enum.reserved),
        )

    def _service(self, service: Service, outer: str) -> Service:
        scope = within(outer, service.name)
        rpcs = [
            replace(
                rpc,
                takes=self._full(rpc.takes, scope),
                gives=self._full(rpc.gives, scope),
                options=self._options.of(rpc.options, scope),
            )
            for rpc in service.rpcs
        ]
        return Service(service.name, rpcs, self._options.of(service.options, scope))

    def _full(self, name: str, scope: str) -> str:
        found = None if name in SCALARS else self._linked.resolve(name, scope)
        return name if found is None else f".{found.name}"


def _sorted_ranges(statements: Iterable[Ranges]) -> list[Ranges]:
    """One statement for each range, numbers before names."""
    numbers: list[tuple[int, int, Ranges]] = []
    names: list[tuple[str, Ranges]] = []
    for statement in statements:
        for item in statement.items:
            if isinstance(item, str):
                names.append((item, Ranges((item,), statement.options)))
            else:
                first, last = (item, item) if isinstance(item, int) else item
                one = first if first == last else (first, last)
                numbers.append((first, last, Ranges((one,), statement.options)))
    in_order = sorted(numbers, key=lambda each: each[:2])
    return [each[-1] for each in (*in_order, *sorted(names, key=lambda each: each[0]))]
