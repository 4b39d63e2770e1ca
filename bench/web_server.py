"""The order service's own web application in a process of its own, with the publisher that Millstream gives it.

Only what answers requests runs here: the events it publishes are nobody's work in this process.
"""

import sys
import threading
from functools import partial
from pathlib import Path

from millstream.http.web import Web, WebServer
from millstream.kafka import connect
from millstream.operate.assembly import prepare
from millstream.operate.run import Crew
from millstream.runtime.sql.database import open_database
from millstream.settings import load_settings
from millstream.telemetry import Health, Tracer
from orders.order.catalogue import catalogue
from orders.order.service import order
from orders.order.web import app

PRODUCTS = [f"{22000 + number}" for number in range(50)]


def main(kind: type[Web], bootstrap: str, registry: str, data: str) -> None:
    """Serves until it is killed; says where on standard output."""
    settings = load_settings(bootstrap_servers=bootstrap, registry_url=registry, data_dir=Path(data))
    kafka = connect(settings, "web-bench")
    contracts = prepare(order, settings, kafka)
    engine = partial(open_database, order, settings)
    with engine().begin() as connection:
        connection.execute(catalogue.insert(), [{"product": product, "name": product} for product in PRODUCTS])
    web = kind(order, settings, contracts, kafka, engine=engine, health=Health(), tracer=Tracer())
    server = WebServer(app(web), web)
    stop = threading.Event()
    crew = Crew([server], web.workers, stop)
    crew.start()
    print(server.url, flush=True)
    stop.wait()
    sys.exit("a worker failed")


if __name__ == "__main__":
    main(Web, *sys.argv[1:4])
