"""Ours: the worker that Millstream runs, in a process of its own."""

import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from bench.stateful.workload import CustomerOrdered, CustomerSpent, Spending, ordered, spent
from millstream import Service, State, Store
from millstream.kafka import connect
from millstream.operate.assembly import prepare
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import load_settings

SPENDING = Store("spending", Spending)


def main(bootstrap: str, registry: str, run: str, output: str, folder: str) -> None:
    spent.name = output
    totals = Service(run)

    @totals.on(CustomerOrdered)
    def add(order: CustomerOrdered, spending: Annotated[State[Spending], SPENDING]) -> CustomerSpent:
        total = Decimal(0)
        for line in order.lines:
            total += line.unit_price * line.quantity
        before = spending.get(order.customer_id) or Spending(spent=Decimal(0), orders=0)
        after = Spending(spent=before.spent + total, orders=before.orders + 1)
        spending.put(order.customer_id, after)
        return CustomerSpent(
            customer_id=order.customer_id,
            order_id=order.order_id,
            total=total,
            spent=after.spent,
            orders=after.orders,
        )

    settings = load_settings(bootstrap_servers=bootstrap, registry_url=registry, data_dir=Path(folder))
    kafka = connect(settings, run)
    contracts = prepare(totals, settings, kafka)
    contracts.register(ordered.contracts)
    KafkaWorker(totals, settings, contracts, kafka).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:6])
