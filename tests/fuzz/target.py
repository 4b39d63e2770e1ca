"""A broker without sockets that takes hostile streams, and what must hold whatever it is sent."""

import logging
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.mutation import frames_of
from tests.fuzz.requests import SEEN_IDS

from millstream.local.broker.core import Broker
from millstream.local.broker.dispatch import Session
from millstream.local.broker.wire.buffer import Malformed
from millstream.testing.wire import read_answer, record_batch, request_frame

MAX_SECONDS = 1.0
"""Processor time for one request: a whole second of it is a hang."""
MAX_MEGABYTES = 200
IDLE_MEGABYTES = 40
"""A process that holds nothing but a broker without topics, and what the tests import."""
STREAMS_A_BROKER = 500
STREAMS_A_CHECK = 50
TOPICS = {
    "plain": {},
    "compacted": {"cleanup.policy": "compact"},
    "stamped": {"message.timestamp.type": "LogAppendTime"},
    "small": {"segment.bytes": "16384", "retention.bytes": "65536"},
    "_schemas": {"cleanup.policy": "compact"},
}


class Finding(AssertionError):
    """A stream did what none may do; the message says what, its first word which kind."""


class Target:
    """Feeds streams to one broker after the other, each under `folder`. Its time is virtual.

    `streams` holds what the present broker was fed: with an empty broker before, they lead to the same finding.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = time.time_ns() // 1_000_000  # a good client gives its records the true time
        self.fed = 0
        self.streams: list[bytes] = []
        self._begin()

    def feed(self, stream: bytes) -> None:
        """One client's whole conversation. Raises Finding, or what the broker should not have raised."""
        self.streams.append(stream)
        session = Session(self._broker, "127.0.0.1")
        try:
            for frame in frames_of(stream):
                if not self._asked(session, frame):
                    break
        finally:
            session.close()
        self._pass_time(60_000 if self.fed % 17 == 0 else 100)
        self.fed += 1
        if self.fed % STREAMS_A_CHECK == 0:
            self.check()
        if self.fed % STREAMS_A_BROKER == 0:
            self.reopen()
            self._broker.close()
            self._begin()

    def check(self) -> None:
        """A good client is served as ever, and memory is bounded."""
        GoodClient(self._broker).round()
        if self.megabytes > MAX_MEGABYTES:
            raise Finding(f"memory: {self.megabytes} MB")

    @property
    def megabytes(self) -> int:
        """The most memory that the present broker has needed; what a fuzzer holds beside it does not count."""
        return IDLE_MEGABYTES + peak_megabytes() - self._before

    def reopen(self) -> None:
        """The broker dies without a word; another opens what it left."""
        self._broker._files.close()  # which is all that the kernel does for a dead process
        self._broker = Broker(self._folder / "data", lambda: self._now)
        self._pass_time(1000)
        self.check()

    def _begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        self._before = peak_megabytes()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        self._broker = Broker(self._folder / "data", lambda: self._now)
        self.streams.clear()
        SEEN_IDS.clear()
        for name, config in TOPICS.items():
            topic = self._broker.topics.create(name, 2, config)
            assert topic is not None
            SEEN_IDS.append(topic.id)

    def _asked(self, session: Session, frame: bytes) -> bool:
        """Whether the client may go on: its request was not malformed, and was answered."""
        answers: list[bytes] = []
        began = time.process_time()
        try:
            session.handle(memoryview(bytearray(frame)), answers.append)
        except Malformed:
            return False
        finally:
            self._broker.settle()
            if (took := time.process_time() - began) > MAX_SECONDS:
                raise Finding(f"slow: {took:.1f} s for one request")
        if not answers:
            self._pass_time(1000)
        if len(answers) > 1:
            raise Finding(f"answered twice: {len(answers)} times")
        for answer in answers:
            if answer and struct.unpack_from(">i", answer)[0] != len(answer) - 4:
                raise Finding("length: an answer of another than it says")
        return bool(answers)

    def _pass_time(self, milliseconds: int) -> None:
        self._now += milliseconds
        self._broker.timers.run_due()
        self._broker.settle()


class GoodClient:
    """Creates a topic, writes, reads back and deletes it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._session = Session(broker, "127.0.0.1")

    def round(self) -> None:
        name, value = "good", b"good value"
        topic = {"name": name, "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
        created = self._ask("create_topics", 5, topics=[topic], timeout=1000, validate_only=False)
        _demand(created.topics[0].error_code.name == "none", created)
        data = [{"name": name, "partition_data": [{"index": 0, "records": record_batch([value])}]}]
        written = self._ask("produce", 9, transactional_id=None, acks=-1, timeout=1000, topic_data=data)
        _demand(written.responses[0].partition_responses[0].error_code.name == "none", written)
        partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}
        wanted = [{"topic": name, "partitions": [partition]}]
        reading = {"max_wait": 0, "min_bytes": 1, "isolation_level": 1, "forgotten_topics_data": []}
        read = self._ask("fetch", 12, topics=wanted, replica_id=-1, **reading)
        _demand(value in bytes(read.responses[0].partitions[0].records or b""), read)
        deleted = self._ask("delete_topics", 5, topic_names=[name], timeout=1000)
        _demand(deleted.responses[0].error_code.name == "none", deleted)

    def _ask(self, api: str, version: int, **values: Any) -> Any:
        answers: list[bytes] = []
        self._session.handle(memoryview(bytearray(request_frame(api, version, 7, values))), answers.append)
        self._broker.settle()
        _demand(len(answers) == 1, f"{api} is not answered")
        correlation, answer = read_answer(api, version, answers[0][4:])
        _demand(correlation == 7, "the answer to another request")
        return answer


def _demand(holds: bool, what: Any) -> None:
    if not holds:
        raise Finding(f"good client: it met {what}")


def peak_megabytes(process: int | str = "self") -> int:
    """The most memory a process had, in the fuzzer since its present broker began."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


@contextmanager
def complaints_are_findings() -> Iterator[None]:
    """While it lasts, a broker that reports something unexpected raises Finding; that it refuses something is
    silent."""
    log, complaints = logging.getLogger("millstream.local"), _Complaints()
    log.addHandler(complaints)
    log.propagate = False
    yield
    log.removeHandler(complaints)
    log.propagate = True


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            raise Finding(f"unexpected: {record.getMessage()}") from (record.exc_info[1] if record.exc_info else None)
