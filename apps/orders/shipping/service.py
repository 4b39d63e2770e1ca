"""The shipping service: a pure function over a store of parcels."""

from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

from millstream import Service, State, Store, Value
from orders.contracts import OrderConfirmed, ShipmentFailed, ShipmentScheduled

MAX_UNITS = 20_000
"""What the carrier takes at once."""

UNDELIVERABLE = frozenset({"Nowhere", "Atlantis"})
"""Where the carrier does not go."""


class Parcel(Value):
    """What became of one order here."""

    tracking: str | None
    units: int


PARCELS = Store("parcels", Parcel)

shipping = Service("shipping")


@shipping.on(OrderConfirmed)
def schedule(
    confirmed: OrderConfirmed, parcels: Annotated[State[Parcel], PARCELS]
) -> ShipmentScheduled | ShipmentFailed | None:
    """Books the carrier, or says why it will not come; once for each order."""
    if parcels.get(confirmed.order_id) is not None:
        return None
    if (reason := _why_not(confirmed)) is not None:
        parcels.put(confirmed.order_id, Parcel(tracking=None, units=confirmed.units))
        return ShipmentFailed(order_id=confirmed.order_id, reason=reason)
    tracking = _tracking(confirmed.order_id)
    parcels.put(confirmed.order_id, Parcel(tracking=tracking, units=confirmed.units))
    return ShipmentScheduled(order_id=confirmed.order_id, tracking=tracking, units=confirmed.units)


def _why_not(confirmed: OrderConfirmed) -> str | None:
    if confirmed.units > MAX_UNITS:
        return f"{confirmed.units} units are more than the {MAX_UNITS} that the carrier takes"
    if confirmed.country in UNDELIVERABLE:
        return f"the carrier does not go to {confirmed.country}"
    return None


def _tracking(order_id: str) -> str:
    return f"MS{uuid5(NAMESPACE_URL, order_id).int % 10**10:010d}GB"
