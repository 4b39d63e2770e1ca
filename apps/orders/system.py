"""The order system: `millstream up` starts all of this on one machine."""

from millstream import Sandbox, System

system = System(
    "orders",
    services=[
        "orders.order.service:order",
        "orders.inventory.service:inventory",
        "orders.payment.service:payment",
        "orders.shipping.service:shipping",
        "orders.email.service:email",
        "orders.read_model.service:read_model",
    ],
    sandbox=[
        Sandbox("gateway", "orders.sandbox.gateway:main"),
        Sandbox("mailbox", "orders.sandbox.mailbox:main"),
        Sandbox("edge", "orders.sandbox.edge:main", public=True),
        Sandbox("shoppers", "orders.sandbox.shoppers:main", optional=True),
    ],
    simulation="orders.simulation:scenario",
    invariants="orders.invariants:invariants",
)
