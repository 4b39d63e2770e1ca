"""A broker without sockets, and clients of it whose requests meet rules."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kio.index import load_entity_schema
from kio.serial import entity_writer
from kio.static.constants import EntityType

from millstream.local.broker import Broker, wall_clock
from millstream.local.broker.wire.answers import writer
from millstream.local.faults.clock import ShiftedClock
from millstream.local.faults.rules import Rules
from millstream.local.faults.session import FaultySession
from millstream.testing.wire import read_answer, record_batch


def request_frame(api: str, version: int, **values: Any) -> memoryview:
    """A request of the client "c"; what is not given has a default."""
    form: Any = load_entity_schema(api, version, EntityType.request)
    header = form.__header_schema__(
        request_api_key=form.__api_key__, request_api_version=version, correlation_id=7, client_id="c"
    )
    buffer = io.BytesIO()
    entity_writer(type(header))(buffer, header)
    body: list[bytes] = []
    writer(form)(body, values)
    return memoryview(bytearray(buffer.getvalue() + b"".join(body)))


class Desk:
    """The broker, its rules and its clock, as a client meets them."""

    def __init__(self, data: Path) -> None:
        self.deaths = 0
        self.hang_ups = 0
        now = wall_clock()
        self.clock = ShiftedClock(lambda: now)
        self.broker = Broker(data, self.clock)
        self.rules = Rules(self._die)
        self.session = FaultySession(self.broker, "127.0.0.1", self.rules, self._hang_up)
        self.answers: list[bytes] = []

    def send(self, api: str, version: int, **values: Any) -> None:
        """One request; what is answered is in `answers`."""
        self.session.handle(request_frame(api, version, **values), self.answers.append)
        self.broker.settle()

    def ask(self, api: str, version: int, **values: Any) -> Any:
        self.answers.clear()
        self.send(api, version, **values)
        (answer,) = self.answers
        correlation, read = read_answer(api, version, answer[4:])
        assert correlation == 7
        return read

    def produce(self, *topics: str, version: int = 9, acks: int = -1) -> Any:
        data = [{"name": topic, "partition_data": [{"index": 0, "records": record_batch([b"v"])}]} for topic in topics]
        if acks == 0:
            return self.send("produce", version, acks=0, timeout=1000, topic_data=data)
        return self.ask("produce", version, acks=acks, timeout=1000, topic_data=data)

    def end_of(self, topic: str) -> int:
        return self.broker.topics.by_name[topic].partitions[0].log.end_offset

    def advance(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000))
        self.broker.timers.run_due()
        self.broker.settle()

    def _die(self) -> None:
        self.deaths += 1

    def _hang_up(self) -> None:
        self.hang_ups += 1


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    for topic in ("orders", "payments"):
        desk.broker.topics.create(topic, 2, {})
    yield desk
    desk.session.close()
    desk.broker.close()
