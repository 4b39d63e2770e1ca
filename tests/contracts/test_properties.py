"""Classes that nobody thought of, in three formats, read by ourselves and by everybody else's libraries.

`make properties` runs thousands of them.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from grpc_tools import protoc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.contracts.strategies import classes

from millstream.contracts import avro_schema, codec_for, json_schema, protobuf_schema
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.contracts.resolve import resolving_decoder
from millstream.declare import Value, full_name

pytestmark = pytest.mark.slow

INCLUDED = str(Path(protoc.__file__).parent / "_proto")
THOROUGH = settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
QUICK = settings(THOROUGH, max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
Made = tuple[type[Value], Any]


def check_avro(contract: type[Value], value: Value) -> None:
    codec = codec_for(contract, 1)
    message = codec.encode(value)
    assert codec.decode(message) == value
    schema = fastavro.parse_schema(avro_schema(contract))
    assert resolving_decoder(contract, avro_schema(contract))(message) == value
    if has_unions(avro_schema(contract)):  # fastavro guesses the branch from the value: a datetime is a date to it
        return
    plain = fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema, plain)
    assert codec.read(message[:5] + written.getvalue()) == value


def has_unions(schema: Any) -> bool:
    """Unions of more than null and one other."""
    match schema:
        case {"fields": fields}:
            return any(has_unions(field["type"]) for field in fields)
        case {"items": inner} | {"values": inner}:
            return has_unions(inner)
        case list():
            return len({"null", *map(str, schema)}) > 2 or any(map(has_unions, schema))
        case _:
            return False


def check_json(contract: type[Value], value: Value) -> None:
    codec = JsonCodec(contract, 1)
    message = codec.encode(value)
    assert codec.decode(message) == value
    schema = json_schema(contract)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(message[5:]))
    older = schema | {"description": "of another time"}
    assert Expected([contract]).reader(1, Written("JSON", older))(message) == value


def check_protobuf(contract: type[Value], value: Value) -> bytes:
    codec = ProtobufCodec(contract, 1)
    message = codec.encode(value)
    assert codec.decode(message) == value
    return message


def collected(number: int) -> list[tuple[type[Value], list[Value]]]:
    """So many classes with a value each, since a compiler is slow to start and would rather have them together."""
    made: list[tuple[type[Value], list[Value]]] = []

    @given(st.data(), classes)
    @settings(QUICK, max_examples=number)
    def collect(data: st.DataObject, drawn: Made) -> None:
        contract, values = drawn
        made.append((contract, [data.draw(values)]))

    collect()
    return made


def check_with_google(made: list[tuple[type[Value], list[Value]]], folder: Path) -> None:
    """Google's own compiler takes all files at once, and its library reads and writes what we do."""
    files = []
    for number, (contract, _) in enumerate(made):
        (folder / f"made{number}.proto").write_text(protobuf_schema(contract))
        files.append(str(folder / f"made{number}.proto"))
    compiled = folder / "made.bin"
    arguments = ["protoc", f"-I{folder}", f"-I{INCLUDED}", f"--descriptor_set_out={compiled}", "--include_imports"]
    assert protoc.main([*arguments, *files]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    for contract, values in made:
        google = message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name(contract)))
        read = ProtobufCodec(contract, 1).read
        for value in values:
            message = check_protobuf(contract, value)
            theirs = google.FromString(message[6:])
            assert not len(unknown_fields.UnknownFieldSet(theirs))
            assert read(message[:6] + theirs.SerializeToString()) == value


@given(st.data(), classes)
@QUICK
def test_classes_that_nobody_thought_of(data: st.DataObject, made: Made) -> None:
    contract, values = made
    value = data.draw(values)
    check_avro(contract, value)
    check_json(contract, value)
    check_protobuf(contract, value)


def test_google_reads_and_writes_them(tmp_path: Path) -> None:
    check_with_google(collected(40), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@given(st.data(), classes)
@THOROUGH
def test_thousands_of_classes(data: st.DataObject, made: Made) -> None:
    contract, values = made
    value = data.draw(values)
    check_avro(contract, value)
    check_json(contract, value)
    check_protobuf(contract, value)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_google_reads_and_writes_thousands(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = collected(10_000)
    for start in range(0, len(made), 200):
        check_with_google(made[start : start + 200], tmp_path_factory.mktemp("protos"))
