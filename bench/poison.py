"""What one poisonous key in 1,000 costs the others: the same worker and events with it and without, in turn."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console

from bench.measure import Comparison, alternate
from bench.outputs import committed_rate
from bench.workload import OrderPlaced, OrderPriced, orders, placed, priced
from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import load_settings
from millstream.testing.local import LocalKafka

EVENTS = 300_000
_KEYS = 1_000
_POISONOUS = "k-7"
_PATIENCE = 120.0


def run(console: Console, rounds: int) -> Comparison:
    """Events a second of all keys but the poisonous one, whose events then have to come out in order."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder, LocalKafka(Path(folder) / "kafka") as local:
        kafka = connect(load_settings(bootstrap_servers=local.bootstrap, registry_url=local.registry), "bench")
        contracts = Contracts(Registry(local.registry))
        _fill(kafka, contracts)
        number = iter(range(1_000_000))

        def side(poisonous: str) -> float:
            name = f"poison-{next(number)}"
            output = f"bench.priced.{name}"
            kafka.admin().ensure_topics([TopicSpec(output, priced.partitions)])
            arguments = [local.bootstrap, local.registry, name, output, folder, poisonous]
            process = subprocess.Popen([sys.executable, "-m", "bench.poisoned", *arguments])
            try:
                rate = committed_rate(kafka, output, EVENTS - EVENTS // _KEYS, patience=_PATIENCE)
                _check_order(kafka, contracts, output)
                return rate
            finally:
                process.terminate()
                process.wait(15)

        return alternate(
            "one poisonous key in 1,000, beside none",
            lambda: side(_POISONOUS),
            lambda: side(""),
            unit="events/s",
            wanted=0.95,
            rounds=rounds,
            console=console,
        )


def _fill(kafka: Kafka, contracts: Contracts) -> None:
    contracts.register([OrderPlaced, OrderPriced])
    kafka.admin().ensure_topics([TopicSpec(placed.name, placed.partitions)])
    producer = kafka.producer()
    headers = header_writer(OrderPlaced, "shop")
    for number, order in enumerate(orders(EVENTS)):
        # Outputs carry the customer on: here it counts, so that order shows.
        order = msgspec.structs.replace(order, order_id=f"k-{number % _KEYS}", customer_id=str(number))
        id = edge_id()
        producer.produce(placed.name, contracts.encode(order), order.order_id.encode(), headers(id, id, None, None))
    producer.flush(60)
    producer.close()


def _check_order(kafka: Kafka, contracts: Contracts, output: str) -> None:
    """Every event of the poisonous key comes out once and in order, however often it failed."""
    expected = [str(number) for number in range(EVENTS) if f"k-{number % _KEYS}" == _POISONOUS]
    decode = contracts.decoder([priced]).decode
    deadline = time.monotonic() + _PATIENCE
    while True:
        found: list[str] = []
        for batch in kafka.read_to_end(output):
            found += [decode(m.value()).customer_id for m in batch if m.key() == _POISONOUS.encode()]
        assert found == expected[: len(found)], f"out of order, lost or doubled: {found}"
        if len(found) == len(expected):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} of {len(expected)} events of the poisonous key in {_PATIENCE:g} s")
        time.sleep(0.5)  # between two looks at what grows
