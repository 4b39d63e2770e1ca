"""A service that charges cards through an outside gateway, and what a test needs to run it, here or to be killed."""

import asyncio
import json
import os
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import msgspec

from millstream.contracts import Contracts
from millstream.declare import (
    Call,
    Delivery,
    Event,
    Kind,
    OnFailure,
    Retry,
    Service,
    Topic,
    dead_letter,
    exponential,
    seconds,
)
from millstream.errors import Unsettled
from millstream.kafka import Message, Producer, TopicSpec, connect
from millstream.runtime.effect.parked_topic import restore_parked
from millstream.runtime.effect.worker import EffectWorker
from millstream.runtime.records.dead_letter import PREFIX
from millstream.runtime.records.redrive import Action, redrive_headers
from millstream.runtime.task.parked import ParkedEvent
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

ROOT = Path(__file__).parents[2]
PARTITIONS = 2


class Gateway:
    """The outside world: a file that every call adds a line to, from whichever process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def note(self, what: str, card: str, number: int, key: str) -> None:
        os.write(self._file, f"{what} {card} {number} {key}\n".encode())

    def close(self) -> None:
        os.close(self._file)


class Payments:
    """The declarations, with names of their own for each test.

    Each charge of a card has a number; the number says what happens: see `trouble`.
    """

    def __init__(
        self,
        name: str,
        *,
        delivery: Delivery = "exactly_once",
        on_failure: OnFailure = dead_letter,
        concurrency: int = 8,
        timeout: float = 60.0,
        attempts: int | None = 3,
        backoff: float = 0.01,
        within: float = 3600.0,
        max_parked: int = 1_000,
    ) -> None:
        class Charge(Event, key="card"):
            card: str
            number: int

        class Refund(Event, key="card"):
            card: str

        class Charged(Event, key="card"):
            card: str
            number: int
            attempts: int

        self.charges = Topic(f"{name}.charges", Charge, partitions=PARTITIONS, format="json")
        self.charged = Topic(f"{name}.charged", Charged, partitions=PARTITIONS, format="json")
        self.service = service = Service(f"{name}-payment", delivery=delivery, max_parked=max_parked)
        self.trouble: Callable[[int, Call], Awaitable[None]] = lambda number, call: asyncio.sleep(0)
        self.opened = self.closed = 0

        @service.provides
        async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
            self.opened += 1
            made = Gateway(settings.data_dir / "gateway.log")
            yield made
            made.close()
            self.closed += 1

        @service.effect(
            Charge,
            retry=Retry(attempts=attempts, backoff=exponential(backoff, factor=1), within=seconds(within)),
            on_failure=on_failure,
            timeout=seconds(timeout),
            concurrency=concurrency,
        )
        async def charge(command: Charge, call: Call, gateway: Gateway) -> Charged:
            gateway.note("begin", command.card, command.number, call.key)
            await self.trouble(command.number, call)
            gateway.note("end", command.card, command.number, call.key)
            return Charged(card=command.card, number=command.number, attempts=call.attempt)


class EffectRig:
    """One such service on one cluster."""

    def __init__(self, bootstrap: str, folder: Path, name: str | None = None, **options: Any) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.name = name or f"t{uuid.uuid4().hex[:8]}"
        self.options = options
        self.payments = Payments(self.name, **options)
        self.service = self.payments.service
        self.kafka = connect(self.settings(0), self.name)
        self.contracts = Contracts(None)

    @property
    def parked_topic(self) -> str:
        return self.service.parked_topic(Kind.EFFECT)

    @property
    def redrive_topic(self) -> str:
        return self.service.redrive_topic(Kind.EFFECT)

    def settings(self, slot: int) -> Settings:
        return Settings(
            bootstrap_servers=self.bootstrap,
            slot=slot,
            data_dir=self.folder,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
        )

    def make_topics(self) -> None:
        payments = self.payments
        specs = [TopicSpec(topic.name, topic.partitions) for topic in (payments.charges, payments.charged)]
        own = [TopicSpec(name, PARTITIONS) for name in (self.parked_topic, self.redrive_topic)]
        admin = self.kafka.admin()
        admin.ensure_topics([*specs, *own, TopicSpec(payments.charges.dead_letters, 1)])
        admin.close()

    def worker(self, slot: int = 0) -> EffectWorker:
        return EffectWorker(self.service, self.settings(slot), self.contracts, self.kafka)

    def child(self, output: Path, slot: int = 0) -> Popen[bytes]:
        """The same worker in a process of its own, whose calls take a moment."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.runtime.effect_rig import main; main()"
        arguments = json.dumps([self.bootstrap, str(self.folder), self.name, slot, self.options])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def charge(self, *charges: tuple[str, int]) -> None:
        self.send(*[(card, msgspec.json.encode({"card": card, "number": number})) for card, number in charges])

    def send(self, *records: tuple[str, bytes], partition: int = -1) -> None:
        producer = self.kafka.producer()
        for key, value in records:
            producer.produce(self.payments.charges.name, value, key.encode(), partition=partition)
        producer.flush()
        producer.close()

    def records(self, topic: str) -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, timeout=20) for m in batch]

    @property
    def down(self) -> Path:
        """While this file is there, no call of a child's succeeds."""
        return self.folder / "down"

    @property
    def fatal(self) -> Path:
        """While this file is there, a call of a child's that succeeds is the last thing it does."""
        return self.folder / "fatal"

    def parked(self) -> list[ParkedEvent]:
        """What is parked now, in the order of the events."""
        partitions = [(self.payments.charges.name, number) for number in range(PARTITIONS)]
        return restore_parked(self.kafka, self.parked_topic, partitions)

    def redrive(self, letter: Message, action: Action = Action.HANDLE, number: int | None = None) -> None:
        """Hand a dead letter in again, or the charge with another number in its place."""
        producer = self.kafka.producer()
        produce_redrive(producer, self.redrive_topic, letter, action, number)
        producer.flush()
        producer.close()

    def forget_positions(self) -> None:
        """Let the group read everything again."""
        group = self.service.group(Kind.EFFECT)
        consumer = self.kafka.consumer(group, instance=f"{group}-0", co_partitioned=True)
        consumer.subscribe([self.payments.charges.name, self.redrive_topic])
        try:

            def assigned() -> bool:
                consumer.poll_batch(1)
                return bool(consumer.assignment())

            wait_until(assigned, seconds=60, what="an assignment")
            consumer.commit(dict.fromkeys(consumer.assignment(), 0))
        finally:
            consumer.close()

    def charged(self) -> dict[str, list[int]]:
        """The numbers of each card's outcomes, in order."""
        found: dict[str, list[int]] = {}
        for message in self.records(self.payments.charged.name):
            event = msgspec.json.decode(message.value() or b"")
            found.setdefault(event["card"], []).append(event["number"])
        return found

    def calls(self, what: str = "begin") -> list[tuple[str, int, str]]:
        """Card, number and idempotency key of every call that reached the gateway, in order."""
        path = self.folder / "gateway.log"
        lines = path.read_text().splitlines() if path.exists() else []
        split = (line.split() for line in lines)
        return [(card, int(number), key) for happened, card, number, key in split if happened == what]

    def dead_letters(self) -> list[Message]:
        return self.records(self.payments.charges.dead_letters)

    def lag(self) -> int:
        admin = self.kafka.admin()
        try:
            found = admin.group_lag(self.service.group(Kind.EFFECT), [self.payments.charges.name, self.redrive_topic])
        finally:
            admin.close()
        return sum(partition.lag for partition in found)

    def wait_until_caught_up(self, seconds: float = 120) -> None:
        wait_until(lambda: self.lag() == 0, seconds=seconds, what=f"{self.service.name} to catch up", every=0.05)

    def wait_until_charged(self, count: int, seconds: float = 120) -> None:
        wait_until(
            lambda: sum(map(len, self.charged().values())) >= count,
            seconds=seconds,
            what=f"{count} outcomes of {self.service.name}",
            every=0.05,
        )


def produce_redrive(
    producer: Producer, topic: str, letter: Message, action: Action = Action.HANDLE, number: int | None = None
) -> None:
    headers = letter.headers() or []
    said = {name.removeprefix(PREFIX): value for name, value in headers if name.startswith(PREFIX)}
    at = (said["topic"].decode(), int(said["partition"]), int(said["offset"]))
    value = letter.value()
    if number is not None:
        value = msgspec.json.encode(msgspec.json.decode(value or b"") | {"number": number})
    original = [header for header in headers if not header[0].startswith(PREFIX)]
    count = int(said.get("redrives", b"0")) + 1
    again = redrive_headers(original, at=at, milliseconds=int(said["timestamp"]), action=action, count=count)
    producer.produce(topic, value, letter.key(), again, partition=at[1])


def main() -> None:
    bootstrap, folder, name, slot, options = json.loads(sys.argv[1])
    rig = EffectRig(bootstrap, Path(folder), name, **options)

    async def trouble(number: int, call: Call) -> None:
        # Later ones end earlier, so that what is finished has gaps.
        await asyncio.sleep(0.002 + 0.05 * (number % 7 == 0))
        if rig.down.exists() or (number % 11 == 0 and call.attempt == 1):
            raise Unsettled("ask later")
        if rig.fatal.exists():
            rig.fatal.unlink()
            # The outcome is there, and what would commit it has not had its turn.
            asyncio.get_running_loop().call_soon(os._exit, 1)

    rig.payments.trouble = trouble
    rig.worker(slot).run(threading.Event())
