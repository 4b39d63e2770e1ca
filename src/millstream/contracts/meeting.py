"""Readers for schemas that are met: as one of the classes that are expected, in whatever language they are written."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from millstream.contracts.codec import codec_for
from millstream.contracts.json import plain_json
from millstream.contracts.json_schema import json_reader, json_schema_text
from millstream.contracts.protobuf import protobuf_decoder, resolving_reader
from millstream.contracts.resolve import plain_decoder, resolving_decoder
from millstream.contracts.schema import avro_schema, record_name, same_bytes
from millstream.declare.contract import Value, former_names, full_name
from millstream.declare.misfit import misfit
from millstream.declare.personal import has_personal
from millstream.declare.reading import shape_of
from millstream.declare.upcast import Upcaster
from millstream.errors import DecodeError
from millstream.schemas.protobuf.linking import Type
from millstream.schemas.protobuf.nodes import Message

Read = Callable[[bytes], Any]


class Written(NamedTuple):
    """A schema as the registry has it: what language it is in, and its text, parsed where that is JSON."""

    kind: str
    schema: Any
    imports: Mapping[str, str] = {}
    """Of a `.proto` file: the texts of those that it imports, by the paths under which it does."""


class Expected:
    """The classes that may come, by all names that they have or had."""

    def __init__(self, contracts: Iterable[type[Value]]) -> None:
        self.contracts = tuple(contracts)
        self._by_name = {
            name: contract for contract in self.contracts for name in (*former_names(contract), full_name(contract))
        }

    def reader(self, schema_id: int, written: Written) -> Read:
        """A function from messages of this schema to one of the classes; it raises `DecodeError`."""
        try:
            match written.kind:
                case "AVRO":
                    return self._avro(schema_id, written.schema)
                case "PROTOBUF":
                    return self._protobuf(schema_id, written)
                case "JSON":
                    return self._json(schema_id, written.schema)
                case kind:
                    raise DecodeError("unreadable_schema", f"it is {kind}; expected Avro, Protobuf or JSON Schema")
        except DecodeError as error:
            return refusing(error.reason, f"schema {schema_id}: {error.detail}")

    def json_reader(self, name: str) -> Read:
        """A function from JSON without a frame, an event called `name`; it raises `DecodeError`."""
        if not any(name in upcaster.names for contract in self.contracts for upcaster in contract.__upcasters__):
            return json_reader(self._named(name), own=False, start=0)
        made: dict[Upcaster | None, Read] = {}

        def read(data: bytes) -> Any:
            value = plain_json(data)
            new, upcaster = self._upcaster(name, frozenset(value if isinstance(value, dict) else ())) or (None, None)
            if upcaster not in made:
                if new is None or upcaster is None:
                    made[upcaster] = json_reader(self._named(name), own=False, start=0)
                else:
                    old = plain_json if upcaster.old is None else Expected([upcaster.old]).json_reader(name)
                    made[upcaster] = _upcast(new, upcaster, old)
            return made[upcaster](data)

        return read

    def _avro(self, schema_id: int, schema: Any) -> Read:
        name = record_name(schema) if isinstance(schema, dict) else str(schema)[:80]
        if found := self._upcaster(name, _avro_fields(schema)):
            new, upcaster = found
            if upcaster.old is None:
                return _upcast(new, upcaster, plain_decoder(schema))
            return _upcast(new, upcaster, Expected([upcaster.old]).reader(schema_id, Written("AVRO", schema)))
        contract = self._named(name)
        if same_bytes(avro_schema(contract), schema):
            return codec_for(contract, schema_id).read
        return resolving_decoder(contract, schema)

    def _protobuf(self, schema_id: int, written: Written) -> Read:
        def choose(message: Type) -> Callable[[bytes, int], Any]:
            fields = message.node.all_fields() if isinstance(message.node, Message) else ()
            found = self._upcaster(message.name, frozenset(field.name for field in fields))
            if found is None:
                return resolving_reader(self._named(message.name), message)
            new, upcaster = found
            if upcaster.old is None:
                detail = f"a dict of Protobuf is not made: upcast {message.name} from a Value class"
                raise DecodeError("unexpected_type", detail)
            read = Expected([upcaster.old])._protobuf(schema_id, written)
            return lambda value, _: _upcast(new, upcaster, read)(value)

        return protobuf_decoder(str(written.schema), choose, written.imports)

    def _json(self, schema_id: int, schema: Any) -> Read:
        title = str(schema.get("title"))[:200] if isinstance(schema, dict) else str(schema)[:80]
        fields = schema.get("properties") if isinstance(schema, dict) else None
        if found := self._upcaster(title, frozenset(fields or ())):
            new, upcaster = found
            if upcaster.old is None:
                return _upcast(new, upcaster, plain_json_payload)
            return _upcast(new, upcaster, Expected([upcaster.old]).reader(schema_id, Written("JSON", schema)))
        short = [contract for contract in self.contracts if contract.__name__ == title]
        contract = short[0] if len(short) == 1 else self._named(title)
        return json_reader(contract, own=msgspec.json.decode(json_schema_text(contract)) == schema)

    def _named(self, name: str) -> type[Value]:
        if (contract := self._by_name.get(name)) is None:
            expected = ", ".join(map(full_name, self.contracts))
            raise DecodeError("unexpected_type", f"it is {name[:200]}; expected {expected}")
        return contract

    def _upcaster(self, name: str, fields: frozenset[str]) -> tuple[type[Value], Upcaster] | None:
        """One that asks for a field stands before one that does not."""
        candidates = [
            (contract, upcaster)
            for contract in self.contracts
            for upcaster in contract.__upcasters__
            if name in upcaster.names and (upcaster.having is None or upcaster.having in fields)
        ]
        return min(candidates, key=lambda found: found[1].having is None, default=None)


def refusing(reason: str, detail: str) -> Read:
    """A reader that has seen enough."""

    def refuse(value: bytes) -> Any:
        raise DecodeError(reason, detail)

    return refuse


def plain_json_payload(message: bytes) -> Any:
    """Framed JSON as what JSON holds. Raises `DecodeError`."""
    return plain_json(message[5:])


def _upcast(new: type[Value], upcaster: Upcaster, read: Read) -> Read:
    quiet = has_personal(new) or (upcaster.old is not None and has_personal(upcaster.old))

    def upcast(message: bytes) -> Any:
        old = read(message)
        try:
            value = upcaster.function(old)
            problem = misfit(shape_of(new), value, new.__name__, quiet=quiet)
        except Exception as error:
            detail = f"{upcaster.names[0]} to {new.__name__}: {type(error).__name__}"
            if quiet:  # an error's text may quote its event
                raise DecodeError("upcast_failed", detail) from None
            raise DecodeError("upcast_failed", f"{detail}: {error}") from error
        if problem:
            raise DecodeError("upcast_failed", f"{upcaster.names[0]} to {new.__name__}: {problem}")
        return value

    return upcast


def _avro_fields(schema: Any) -> frozenset[str]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, list):
        return frozenset()
    return frozenset(str(field.get("name")) for field in fields if isinstance(field, dict))
