"""Our side of the handler benchmark: the worker that Millstream runs, in a process of its own."""

import sys
import threading
from pathlib import Path

from bench.workload import OrderPlaced, OrderPriced, placed, price, priced
from millstream import Service
from millstream.kafka import connect
from millstream.operate.assembly import prepare
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import load_settings


def main(bootstrap: str, registry: str, run: str, output: str, data: str) -> None:
    priced.name = output
    pricing = Service(f"pricing-{run}")

    @pricing.on(OrderPlaced)
    def price_order(order: OrderPlaced) -> OrderPriced:
        return price(order)

    settings = load_settings(bootstrap_servers=bootstrap, registry_url=registry, data_dir=Path(data))
    kafka = connect(settings, pricing.name)
    contracts = prepare(pricing, settings, kafka)
    contracts.register(placed.contracts)
    KafkaWorker(pricing, settings, contracts, kafka).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:6])
