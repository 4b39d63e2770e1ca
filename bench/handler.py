"""The exactly-once handler beside the loop written by hand: the same events, headers, commit interval and broker."""

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench.measure import Comparison, alternate
from bench.outputs import committed_rate
from bench.workload import OrderPlaced, OrderPriced, orders, placed, priced
from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import load_settings
from millstream.testing.local import LocalKafka

EVENTS = 150_000


def run(console: Console, rounds: int) -> Comparison:
    """Events a second from the first output to the last, in a process that consumes a topic filled before."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder, LocalKafka(Path(folder) / "kafka") as local:
        kafka = connect(load_settings(bootstrap_servers=local.bootstrap, registry_url=local.registry), "bench")
        _fill(kafka, local.registry)
        number = iter(range(1_000_000))

        def side(module: str, last: str) -> float:
            name = f"{module.rpartition('.')[2]}-{next(number)}".replace("_", "-")
            output = f"bench.priced.{name}"
            specs = [TopicSpec(topic, 6) for topic in (output, f"{output}.dlq", "bench.placed.dlq")]
            kafka.admin().ensure_topics(specs)
            arguments = [local.bootstrap, local.registry, name, output, last or str(EVENTS)]
            process = subprocess.Popen([sys.executable, "-m", module, *arguments])
            try:
                return committed_rate(kafka, output, EVENTS)
            finally:
                process.terminate()
                process.wait(15)

        return alternate(
            "exactly-once handler",
            lambda: side("bench.ours", folder),
            lambda: side("bench.baselines.handwritten_loop", ""),
            unit="events/s",
            wanted=1.5,
            rounds=rounds,
            console=console,
        )


def _fill(kafka: Kafka, registry: str) -> None:
    contracts = Contracts(Registry(registry))
    contracts.register([OrderPlaced, OrderPriced])
    kafka.admin().ensure_topics([TopicSpec(placed.name, placed.partitions), TopicSpec(priced.name, priced.partitions)])
    producer = kafka.producer()
    headers = header_writer(OrderPlaced, "shop")
    for order in orders(EVENTS):
        id = edge_id()
        producer.produce(placed.name, contracts.encode(order), order.order_id.encode(), headers(id, id, None, None))
    producer.flush(60)
    producer.close()
