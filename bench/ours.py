"""Our side of the handler benchmark: the worker that Millstream runs, in a process of its own."""

import sys
import threading
from pathlib import Path

from bench.workload import OrderPlaced, OrderPriced, placed, price, priced
from millstream import Service
from millstream.contracts import Contracts, Registry
from millstream.kafka import connect
from millstream.runtime.kafka_worker import KafkaWorker
from millstream.settings import load_settings


def main(bootstrap: str, registry: str, run: str, output: str, data: str) -> None:
    priced.name = output
    pricing = Service(f"pricing-{run}")

    @pricing.on(OrderPlaced)
    def price_order(order: OrderPlaced) -> OrderPriced:
        return price(order)

    settings = load_settings(bootstrap_servers=bootstrap, registry_url=registry, data_dir=Path(data))
    contracts = Contracts(Registry(registry))
    contracts.register([*placed.contracts, *priced.contracts])
    KafkaWorker(pricing, settings, contracts, connect(settings, pricing.name)).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:6])
