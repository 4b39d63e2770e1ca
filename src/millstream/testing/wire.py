"""Kafka's protocol by hand, for what no client lets a test do: stale epochs, wrong sequences, foreign generations.

Requests are given as keyword arguments with kio's field names; nested structures as dictionaries, durations in ms:

    wire = Wire(kafka.bootstrap)
    wire.coordinator_of_group("g").ask("heartbeat", 3, group_id="g", generation_id=1, member_id="m").error_code
"""

import io
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Self, get_args, get_type_hints
from uuid import UUID

from crc32c import crc32c
from kio.index import load_entity_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

ANSWER_WITHIN_SECONDS = 20.0


class Connection:
    """One connection to one broker; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=ANSWER_WITHIN_SECONDS)
        self._answers = self._socket.makefile("rb")
        self._correlation = 0

    def ask(self, api: str, version: int, /, **values: Any) -> Any:
        """Send the request and return kio's form of the answer. Raises OSError if the broker hangs up or is silent."""
        self.send(api, version, **values)
        return self.receive(api, version)

    def send(self, api: str, version: int, /, **values: Any) -> None:
        """Send the request without waiting for its answer."""
        self._correlation += 1
        frame = request_frame(api, version, self._correlation, values)
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self, api: str, version: int) -> Any:
        """Wait for the answer to the request sent last."""
        size = self._answers.read(4)
        if len(size) < 4:
            raise ConnectionResetError("the broker closed the connection instead of answering")
        correlation, answer = read_answer(api, version, self._answers.read(struct.unpack(">i", size)[0]))
        assert correlation == self._correlation
        return answer

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def request_frame(api: str, version: int, correlation: int, values: Mapping[str, Any]) -> bytes:
    """A request as bytes, without its length."""
    form: Any = load_entity_schema(api, version, EntityType.request)
    header = form.__header_schema__(
        request_api_key=form.__api_key__, request_api_version=version, correlation_id=correlation, client_id="wire"
    )
    return _written(header) + _written(_built(form, values))


def read_answer(api: str, version: int, frame: bytes) -> tuple[int, Any]:
    """The correlation id of an answer without its length, and kio's form of it."""
    form: Any = load_entity_schema(api, version, EntityType.response)
    header, length = entity_reader(form.__header_schema__)(frame, 0)
    return header.correlation_id, entity_reader(form)(frame, length)[0]


class Wire:
    """Connections to the brokers of a cluster, each made when it is first needed. A context manager."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self._connections: dict[tuple[str, int], Connection] = {}
        self.any = self._connected(host, int(port))

    def brokers(self) -> list[Connection]:
        """A connection to every broker there is."""
        return [self._connected(broker.host, broker.port) for broker in self._metadata(None).brokers]

    def leader_of(self, topic: str, partition: int = 0) -> Connection:
        """The broker that leads the partition."""
        metadata = self._metadata(topic)
        leader = next(p.leader_id for p in metadata.topics[0].partitions if p.partition_index == partition)
        broker = next(broker for broker in metadata.brokers if broker.node_id == leader)
        return self._connected(broker.host, broker.port)

    def coordinator_of_group(self, group: str) -> Connection:
        """The group's coordinator, once it knows that it is."""
        stranger = {"group_id": group, "generation_id": 0, "member_id": "nobody"}
        return self._coordinator(group, 0, lambda broker: broker.ask("heartbeat", 3, **stranger))

    def coordinator_of_transactions(self, transactional_id: str) -> Connection:
        """The transactional id's coordinator, once it knows that it is."""
        stranger = {"transactional_id": transactional_id, "producer_id": -1, "producer_epoch": 0, "committed": False}
        return self._coordinator(transactional_id, 1, lambda broker: broker.ask("end_txn", 1, **stranger))

    def topic_id(self, topic: str) -> UUID:
        return self._metadata(topic).topics[0].topic_id

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _metadata(self, topic: str | None) -> Any:
        topics = [] if topic is None else [{"topic_id": UUID(int=0), "name": topic}]
        asked = {"allow_auto_topic_creation": False, "include_topic_authorized_operations": False}
        return _settled(lambda: self.any.ask("metadata", 12, topics=topics, **asked), _errors_in_metadata)

    def _coordinator(self, key: str, kind: int, probe: Callable[[Connection], Any]) -> Connection:
        found: list[Connection] = []

        def look() -> Any:
            answer = self.any.ask("find_coordinator", 2, key=key, key_type=kind)
            if answer.error_code is not ErrorCode.none:
                return answer
            found.append(self._connected(answer.host, answer.port))
            return probe(found[-1])

        _settled(look, lambda answer: [answer.error_code])
        return found[-1]

    def _connected(self, host: str, port: int) -> Connection:
        if (host, port) not in self._connections:
            self._connections[host, port] = Connection(host, port)
        return self._connections[host, port]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def record_batch(
    values: Sequence[bytes],
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
) -> bytes:
    """An uncompressed record batch without keys, as a producer would send it."""
    now = time.time_ns() // 1_000_000
    body = b"".join(_record(position, value) for position, value in enumerate(values))
    checked = struct.pack(
        ">hiqqqhii", 16 if transactional else 0, len(values) - 1, now, now, producer_id, epoch, sequence, len(values)
    )
    checked += body
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


def _record(position: int, value: bytes) -> bytes:
    fields_ = b"\x00" + _varint(0) + _varint(position) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    return _varint(len(fields_)) + fields_


def _varint(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    written = bytearray()
    while rest > 0x7F:
        written.append(0x80 | (rest & 0x7F))
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _settled(ask: Callable[[], Any], errors: Callable[[Any], list[ErrorCode]]) -> Any:
    """Ask again while a partition or coordinator is still being elected, for at most 15 s."""
    passing = {
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.leader_not_available,
        ErrorCode.coordinator_not_available,
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.not_coordinator,
    }
    deadline = time.monotonic() + 15
    while True:
        answer = ask()
        if not passing & set(errors(answer)) or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


def _errors_in_metadata(answer: Any) -> list[ErrorCode]:
    """Of topics, and of the partitions of those that are there."""
    return [error for topic in answer.topics for error in (topic.error_code, *(p.error_code for p in topic.partitions))]


def _written(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def _built(form: Any, values: Mapping[str, Any]) -> Any:
    hints = _hints(form)
    unknown = values.keys() - {field.name for field in fields(form)}
    if unknown:
        raise TypeError(f"{form.__name__} has no {sorted(unknown)}; it has {[field.name for field in fields(form)]}")
    return form(
        **{
            field.name: _value(hints[field.name], field.metadata, values[field.name])
            for field in fields(form)
            if field.name in values
        }
    )


def _value(hint: Any, metadata: Mapping[str, Any], value: Any) -> Any:
    if value is None:
        return None
    if str(metadata.get("kafka_type", "")).startswith("timedelta"):
        return timedelta(milliseconds=value)
    if not isinstance(value, list | tuple):
        return value
    nested = _dataclasses_in(hint)
    return tuple(_built(nested[0], item) for item in value) if nested else tuple(value)


@cache
def _hints(form: Any) -> dict[str, Any]:
    return get_type_hints(form)


def _dataclasses_in(hint: Any) -> list[Any]:
    if is_dataclass(hint):
        return [hint]
    return [found for argument in get_args(hint) for found in _dataclasses_in(argument)]
