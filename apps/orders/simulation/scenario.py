"""One world of the order system: everything runs, everything fails, and then it must have come out right."""

from millstream.testing.simulation import CALM, Faults, Services, World
from orders.email.service import Mailer
from orders.payment.gateway import Gateway
from orders.simulation.customers import DELIVERED, Customers
from orders.simulation.outside import GOOD, Outside, SimulatedGateway, SimulatedMailer
from orders.simulation.truth import Truth
from orders.system import system

ORDERS = 200
UNANSWERED = 125.0
"""Seconds after which a return asks again for money of which it heard nothing, and some more."""
PAIRS = ("order", "inventory", "payment", "shipping", "email")
"""Services that may have two instances."""


def scenario(world: World, orders: int = ORDERS, garbled: float = 0.002, delivered: float = DELIVERED) -> list[str]:
    """What is wrong when `orders` orders have ended in a world with faults. Raises TimeoutError if they do not end.

    - `garbled`: the chance of a refund that its answer cannot be read. Such a world lasts two minutes longer.
    - `delivered`: goods of each product for each order.
    """
    world.faults = _hasty(world.faults)
    outside = Outside(world)
    gateway, mailer = SimulatedGateway(world, outside, garbled), SimulatedMailer(outside)
    services = Services(world, system.services(), {Gateway: gateway.provide, Mailer: mailer.provide})
    customers = Customers(world, services, system.service("order"), orders, delivered)
    services.start({name: world.random.randint(1, 2) for name in PAIRS})
    world.process("web", customers.serve)
    world.until(lambda: customers.done, 600, "the customers to have asked for everything", every=0.5)
    outside.manners = GOOD
    # Nothing goes wrong any more, but messages take as long as before.
    world.faults = CALM._replace(delay=world.faults.delay)
    world.broker.restart()
    services.settle(600)
    if gateway.garbled:
        world.sleep(UNANSWERED)
        services.settle(600)
    truth = Truth(world.kafka(services.settings()), services.contracts, world.folder)
    return list(truth.violations(customers.requests, gateway, mailer))


def _hasty(faults: Faults) -> Faults:
    """Twice as often as elsewhere: these worlds are short."""
    often = {kind: getattr(faults, kind) / 2 for kind in ("crash", "freeze", "broker_crash")}
    return faults._replace(disconnect=faults.disconnect * 1.5, **often)
