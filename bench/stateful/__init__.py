"""The exactly-once handler with state: ours, the loop by hand, and the peers, on one broker with the same data."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.measure import Bound, Comparison
from bench.outputs import committed_rate
from bench.stateful.peers import interpreter
from bench.stateful.workload import PARTITIONS, CustomerOrdered, CustomerSpent, Spending, ordered, orders, spent
from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import load_settings
from millstream.testing.local import LocalKafka

EVENTS = 100_000
FASTER_THAN_BY_HAND, FASTER_THAN_QUIX = 1.5, 4.0
_ENOUGH_SECONDS = 20.0
"""A side that is slow is watched for so long; its rate needs no more."""
_PATIENCE = 90.0


def run(console: Console, rounds: int) -> list[Comparison | Bound]:
    """Events a second by committed outputs, each side in a process of its own that reads a topic filled before."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as name, LocalKafka(Path(name) / "kafka") as local:
        folder = Path(name)
        kafka = connect(load_settings(bootstrap_servers=local.bootstrap, registry_url=local.registry), "bench")
        _fill(kafka, local.registry)
        python = interpreter()
        number = iter(range(1_000_000))

        def side(module: str, interpreter: Path | str, last: str = "") -> Callable[[], float]:
            def measure() -> float:
                run = f"{module.replace('_', '-')}-{next(number)}"
                output = f"bench.{run}.spent"
                kafka.admin().ensure_topics([TopicSpec(output, PARTITIONS)])
                state = folder / run
                state.mkdir()
                command = [interpreter, Path(__file__).parent / f"{module}.py", local.bootstrap, local.registry]
                if interpreter == sys.executable:
                    command[1:2] = ["-m", f"bench.stateful.{module}"]
                with (folder / f"{run}.log").open("wb") as log:
                    process = subprocess.Popen([*command, run, output, last or state], stdout=log, stderr=log)
                    try:
                        return committed_rate(kafka, output, EVENTS, patience=_PATIENCE, enough=_ENOUGH_SECONDS)
                    except TimeoutError as error:
                        raise TimeoutError(f"{error}\n{(folder / f'{run}.log').read_text()[-2_000:]}") from None
                    finally:
                        process.kill()
                        process.wait(15)

            return measure

        by_hand = side("by_hand", sys.executable, str(EVENTS))
        sides = {
            "ours": side("ours", sys.executable),
            "by hand": by_hand,
            "Quix Streams": side("quix_streams", python),
            "FastStream, at least once": side("fast_stream", python),
            "Faust": side("faust_agent", python),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for round_number in range(rounds):
            for name, measure in sides.items():
                rates[name].append(measure())
                console.print(f"  stateful round {round_number + 1}: {name} {rates[name][-1]:,.0f} events/s")
    ours = rates.pop("ours")
    wanted = {"by hand": FASTER_THAN_BY_HAND, "Quix Streams": FASTER_THAN_QUIX}
    return [
        Comparison(f"stateful, beside {name}", "events/s", ours, theirs, wanted.get(name, 0.0))
        for name, theirs in rates.items()
    ]


def _fill(kafka: Kafka, registry: str) -> None:
    contracts = Contracts(Registry(registry))
    contracts.register([CustomerOrdered, CustomerSpent])
    contracts.values("bench.spending", Spending)
    kafka.admin().ensure_topics([TopicSpec(topic.name, topic.partitions) for topic in (ordered, spent)])
    producer = kafka.producer()
    headers = header_writer(CustomerOrdered, "shop")
    for order in orders(EVENTS):
        id = edge_id()
        producer.produce(ordered.name, contracts.encode(order), order.customer_id.encode(), headers(id, id, None, None))
    producer.flush(60)
    producer.close()
