"""A service with effects in a world: two instances, a customer, and a person who hands dead letters in again."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec
from tests.runtime.effect_rig import PARTITIONS, Payments, produce_redrive

from millstream.contracts import Contracts
from millstream.declare import Call, Kind, park_key
from millstream.errors import Rejected, Unsettled
from millstream.kafka import TopicSpec
from millstream.runtime.effect.worker import EffectWorker
from millstream.settings import Settings
from millstream.testing.simulation import CALM, Faults, Process, World


class Till:
    """Cards are charged by a gateway that often does not answer, and at times refuses what it takes the next day."""

    def __init__(self, world: World, charges: int) -> None:
        self.world = world
        self.payments = Payments("till", attempts=None, backoff=0.3, within=3_600, on_failure=park_key)
        self.payments.trouble = self._trouble
        self.service = self.payments.service
        self.ordered: dict[str, list[int]] = {}
        self.keys: dict[int, set[str]] = {}
        """Of each charge, with which idempotency keys it was called."""
        self._charges = charges
        self._topics = (self.payments.charges.name, self.payments.charged.name)
        self._own = (self.service.parked_topic(Kind.EFFECT), self.service.redrive_topic(Kind.EFFECT))
        specs = [TopicSpec(name, PARTITIONS) for name in (*self._topics, *self._own)]
        world.kafka().admin().ensure_topics([*specs, TopicSpec(self.payments.charges.dead_letters, 1)])
        self.customer = world.process("customer", self._order, restart=False)
        self.person = world.process("person", self._redrive, restart=False)
        self.instances = [self._instance(slot) for slot in range(2)]

    def finish(self) -> None:
        self.world.until(lambda: not self.customer.running, 600, "the customer to have ordered", every=0.1)
        assert self.customer.error is None, self.customer.error
        self.world.faults = CALM
        self.world.broker.restart()
        self.world.until(self._all_charged, 1_200, "all to be charged", every=0.5)
        self.world.sleep(5)

    def check(self) -> None:
        assert self._charged() == self.ordered
        assert all(len(keys) == 1 for keys in self.keys.values())
        parked = {message.key(): message.value() for message in self._records(self._own[0])}
        assert not any(parked.values())

    def _all_charged(self) -> bool:
        return sum(map(len, self._charged().values())) >= self._charges

    def _charged(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for message in self._records(self.payments.charged.name):
            event = msgspec.json.decode(message.value() or b"")
            found.setdefault(event["card"], []).append(event["number"])
        return found

    def _records(self, topic: str) -> list[Any]:
        return [message for batch in self.world.kafka().read_to_end(topic) for message in batch]

    async def _trouble(self, number: int, call: Call) -> None:
        self.keys.setdefault(number, set()).add(call.key)
        await asyncio.sleep(random.uniform(0.001, 0.2))
        if random.random() < 0.4:
            raise Unsettled("ask later")
        if random.random() < 0.05:
            raise Rejected("out_of_money", "try on pay day")

    def _instance(self, slot: int) -> Process:
        settings = Settings(slot=slot, data_dir=self.world.folder, session_timeout_ms=6_000, heartbeat_interval_ms=300)

        def main() -> None:
            kafka = self.world.kafka(settings, f"till-{slot}")
            EffectWorker(self.service, settings, Contracts(None), kafka).run(threading.Event())

        return self.world.process(f"till-{slot}", main)

    def _order(self) -> None:
        producer, chance = self.world.kafka().producer(), self.world.random
        numbers = iter(range(self._charges))
        while batch := list(islice(numbers, chance.randint(1, 10))):
            for number in batch:
                card = f"card-{chance.randrange(8)}"
                value = msgspec.json.encode({"card": card, "number": number})
                producer.produce(self.payments.charges.name, value, card.encode())
                self.ordered.setdefault(card, []).append(number)
            producer.flush(60)
            self.world.sleep(chance.uniform(0, 1))
        producer.close()

    def _redrive(self) -> None:
        """Each dead letter once."""
        producer = self.world.kafka().producer()
        seen = 0
        while True:
            letters = self._records(self.payments.charges.dead_letters)
            for letter in letters[seen:]:
                produce_redrive(producer, self._own[1], letter)
            producer.flush(60)
            seen = len(letters)
            self.world.sleep(1)


@contextmanager
def till(seed: int, faults: Faults, charges: int = 100) -> Iterator[Till]:
    with World(seed, faults) as world:
        yield Till(world, charges)
