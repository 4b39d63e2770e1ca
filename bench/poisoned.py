"""The worker of the poison benchmark, in a process of its own: one key, or none, fails ten times at each event."""

import sys
import threading
from collections import Counter
from pathlib import Path

from bench.workload import OrderPlaced, OrderPriced, placed, price, priced
from millstream import Retry, Service
from millstream.kafka import connect
from millstream.operate.assembly import prepare
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import load_settings

RETRIES = 10


def main(bootstrap: str, registry: str, run: str, output: str, folder: str, poisonous: str) -> None:
    priced.name = output
    pricing = Service(run)
    failures: Counter[str] = Counter()

    @pricing.on(OrderPlaced, retry=Retry(attempts=RETRIES + 1, backoff=lambda failures: 0.005))
    def price_order(order: OrderPlaced) -> OrderPriced:
        if order.order_id == poisonous and failures[order.customer_id] < RETRIES:
            failures[order.customer_id] += 1
            raise TimeoutError("in passing")
        return price(order)

    settings = load_settings(bootstrap_servers=bootstrap, registry_url=registry, data_dir=Path(folder))
    kafka = connect(settings, run)
    contracts = prepare(pricing, settings, kafka)
    contracts.register(placed.contracts)
    KafkaWorker(pricing, settings, contracts, kafka).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:7])
