"""The carrier's rules."""

from millstream.state.memory import MemoryStore
from orders.contracts import OrderConfirmed, ShipmentFailed, ShipmentScheduled
from orders.shipping.service import PARCELS, schedule


def test_a_parcel_is_booked_once():
    parcels = MemoryStore(PARCELS)
    confirmed = OrderConfirmed(order_id="o-1", units=13_956, country="United Kingdom")
    scheduled = schedule(confirmed, parcels)
    assert isinstance(scheduled, ShipmentScheduled) and scheduled.units == 13_956
    assert schedule(confirmed, parcels) is None
    other = schedule(OrderConfirmed(order_id="o-2", units=1), parcels)
    assert isinstance(other, ShipmentScheduled) and other.tracking != scheduled.tracking


def test_too_many_units():
    assert schedule(OrderConfirmed(order_id="o-1", units=20_001), MemoryStore(PARCELS)) == ShipmentFailed(
        order_id="o-1", reason="20001 units are more than the 20000 that the carrier takes"
    )


def test_a_place_where_no_carrier_goes_is_said_once():
    parcels = MemoryStore(PARCELS)
    confirmed = OrderConfirmed(order_id="o-1", units=1, country="Atlantis")
    assert schedule(confirmed, parcels) == ShipmentFailed(order_id="o-1", reason="the carrier does not go to Atlantis")
    assert schedule(confirmed, parcels) is None
