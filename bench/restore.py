"""How fast state comes back: a store's changelog, read by the worker's own restore."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

from rich.console import Console

from bench.measure import Bound
from millstream import Event, Service, State, Store, Topic, Value
from millstream.contracts import Contracts, Registry
from millstream.kafka import TopicSpec, connect
from millstream.settings import load_settings
from millstream.state import StatePartitions
from millstream.testing.local import LocalKafka

RECORDS = 600_000
_PARTITIONS = 6


class Moved(Event, key="id", namespace="bench"):
    """What the handler of the store takes."""

    id: str


class Stock(Value, namespace="bench"):
    """What is kept."""

    number: int
    place: str


moves = Topic("bench.moves", Moved, partitions=_PARTITIONS)
STOCK = Store("stock", Stock)


def run(console: Console, rounds: int) -> Bound:
    """Changelog records a second, the median of the rounds, from nothing in memory to all of it."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder, LocalKafka(Path(folder) / "kafka") as local:
        service = Service("stocktaking")

        @service.on(Moved)
        def move(moved: Moved, stock: Annotated[State[Stock], STOCK]) -> None: ...

        kafka = connect(load_settings(bootstrap_servers=local.bootstrap, registry_url=local.registry), "bench")
        contracts = Contracts(Registry(local.registry))
        changelog = STOCK.changelog(service.name)
        kafka.admin().ensure_topics([TopicSpec(changelog, _PARTITIONS)])
        encode = contracts.values(changelog, Stock).encode
        producer = kafka.producer()
        for number in range(RECORDS):
            value = encode(Stock(number=number, place=f"shelf {number % 97}"))
            producer.produce(changelog, value, f"p-{number // 2}".encode(), None, number // 2 % _PARTITIONS)
        producer.flush(60)
        producer.close()

        figures: list[float] = []
        for number in range(rounds):
            states = StatePartitions(service, contracts, kafka)
            began = time.monotonic()
            states.restore(range(_PARTITIONS))
            figures.append(RECORDS / (time.monotonic() - began))
            there = sum(len(states.stores(partition)[STOCK]) for partition in range(_PARTITIONS))
            assert there == RECORDS // 2, f"{there:,} of {RECORDS // 2:,} keys came back"
            console.print(f"  restore round {number + 1}: {figures[-1]:,.0f} records/s")
        return Bound("restore of state", "records/s", median(figures), least=300_000)
