"""Connections that are hostile by their sizes, their slowness and their number: memory and time stay bounded, and a
good client is served meanwhile."""

import asyncio
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.fuzz.target import MAX_MEGABYTES, peak_megabytes

from millstream.local.broker import Broker
from millstream.local.broker import server as server_module
from millstream.testing.local import LocalKafka
from millstream.testing.wire import Connection

PATIENCE_SECONDS = 10.0
PRODUCE_9 = struct.pack(">hhih", 0, 9, 1, -1)
METADATA_0 = struct.pack(">hhihi", 3, 0, 1, -1, 0)


@pytest.fixture
def crowd() -> Iterator["Crowd"]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        yield Crowd(stack)


class Crowd:
    """Sockets, all closed in the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def connect(self, kafka: LocalKafka) -> socket.socket:
        host, port = kafka.bootstrap.split(":")
        return self._stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS))


def good(kafka: LocalKafka) -> float:
    """The seconds in which a good client is served."""
    began = time.monotonic()
    host, port = kafka.bootstrap.split(":")
    connection = Connection(host, int(port))
    asked = {"allow_auto_topic_creation": False, "include_topic_authorized_operations": False}
    assert connection.ask("metadata", 12, topics=[], **asked).brokers
    connection.close()
    return time.monotonic() - began


def is_hung_up_on(client: socket.socket) -> bool:
    try:
        return client.recv(1 << 16) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("size", [-1, -(1 << 31), (100 << 20) + 1, (1 << 31) - 1])
def test_an_impossible_size_ends_the_connection_at_once(shared_kafka: LocalKafka, crowd: Crowd, size: int):
    client = crowd.connect(shared_kafka)
    client.sendall(struct.pack(">i", size))
    assert is_hung_up_on(client)
    assert good(shared_kafka) < PATIENCE_SECONDS


def test_only_produce_may_be_large(shared_kafka: LocalKafka, crowd: Crowd):
    client = crowd.connect(shared_kafka)
    client.sendall(struct.pack(">i", 50 << 20) + METADATA_0)
    assert is_hung_up_on(client)


def test_what_is_announced_and_not_sent_takes_no_memory(kafka: LocalKafka, crowd: Crowd):
    for _ in range(300):
        crowd.connect(kafka).sendall(struct.pack(">i", 100 << 20) + PRODUCE_9)
    assert good(kafka) < PATIENCE_SECONDS
    assert peak_megabytes(kafka.pid) < MAX_MEGABYTES


def test_many_large_requests_sent_in_part_take_bounded_memory(kafka: LocalKafka, crowd: Crowd):
    part = bytes(1 << 20)
    for _ in range(40):
        client = crowd.connect(kafka)
        client.sendall(struct.pack(">i", 100 << 20) + PRODUCE_9)
        try:
            for _ in range(10):
                client.sendall(part)
        except OSError:  # hung up on, which is one way to be bounded
            continue
    assert good(kafka) < PATIENCE_SECONDS
    assert peak_megabytes(kafka.pid) < MAX_MEGABYTES


def test_one_request_of_the_largest_size_is_taken(kafka: LocalKafka, crowd: Crowd):
    client = crowd.connect(kafka)
    most = 100 << 20
    client.sendall(struct.pack(">i", most) + PRODUCE_9 + b"\0" + b"\1\xff\xff\0\0\0\0\1\0")
    part, left = bytes(1 << 20), most - len(PRODUCE_9) - 10
    while left:
        left -= client.send(part[:left])
    assert client.recv(4)
    assert good(kafka) < PATIENCE_SECONDS
    assert peak_megabytes(kafka.pid) < MAX_MEGABYTES


def test_answers_that_nobody_reads_stay_in_the_socket(kafka: LocalKafka, crowd: Crowd):
    client = crowd.connect(kafka)
    client.settimeout(1)
    asking = (struct.pack(">i", len(METADATA_0)) + METADATA_0) * 10_000
    with pytest.raises(TimeoutError):
        client.sendall(asking * 400)
    assert good(kafka) < PATIENCE_SECONDS
    assert peak_megabytes(kafka.pid) < MAX_MEGABYTES


def test_thousands_of_silent_connections_do_not_lock_a_good_client_out(kafka: LocalKafka, crowd: Crowd):
    for _ in range(server_module.MAX_CONNECTIONS + 500):
        crowd.connect(kafka)
    assert good(kafka) < PATIENCE_SECONDS
    assert peak_megabytes(kafka.pid) < MAX_MEGABYTES


@pytest.mark.parametrize("hostile", ["a byte now and then", "nothing"])
def test_who_takes_for_ever_over_a_request_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: str):
    monkeypatch.setattr(server_module, "HALF_REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(server_module, "_SWEEP_SECONDS", 0.1)

    async def conversation() -> None:
        broker = Broker(tmp_path, server_module.wall_clock)
        server = await server_module.Server.start(broker, "127.0.0.1", 0)
        waits, waiting = await asyncio.open_connection("127.0.0.1", server.port)
        waiting.write(struct.pack(">i", len(METADATA_0)) + METADATA_0)
        assert await waits.read(4)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        began = time.monotonic()
        while not reader.at_eof() and not reader.exception():
            if hostile != "nothing":
                writer.write(b"\0")
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < PATIENCE_SECONDS
        assert not waits.at_eof() and not waits.exception(), "who has asked may be silent for longer"
        for stream in (writer, waiting):
            stream.transport.abort()
        await server.close()
        broker.close()

    asyncio.run(conversation())
