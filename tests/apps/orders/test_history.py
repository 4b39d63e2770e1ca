"""Every form that OrderCreated ever had, as bytes: services must read them for ever, and see today's form only.

Whoever changes the class adds a form here, with a raw event, and changes none.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from millstream.contracts import Contracts, schema_text
from millstream.errors import DecodeError
from millstream.testing.simulation import SimulatedRegistry
from orders.contracts import OrderCreated, OrderLine, orders

MONEY = '{"type":"bytes","logicalType":"decimal","precision":18,"scale":4}'
SECOND_FIELDS = (
    '{"name":"order_id","type":"string"},'
    '{"name":"customer_id","type":["null","string"],"default":null},'
    '{"name":"country","type":["null","string"],"default":null},'
    '{"name":"reference","type":["null","string"],"default":null},'
    '{"name":"lines","type":{"type":"array","items":{"type":"record","name":"OrderLine","namespace":"orders",'
    '"doc":"So many of one product, at a price each. An order or a return may have several lines of the same product.",'
    '"fields":[{"name":"product","type":"string"},{"name":"quantity","type":"long"},'
    f'{{"name":"unit_price","type":{MONEY}}}]}}}}}},'
    f'{{"name":"total","type":{MONEY}}}'
)
HEAD = (
    '{"type":"record","name":"OrderCreated","namespace":"orders",'
    '"doc":"A valid order came in. `reference` is the customer\'s own number for it.","fields":['
)
FORMS = {
    "the first shop": (
        '{"type":"record","name":"OrderCreated","namespace":"com.example.orders","fields":['
        '{"name":"orderId","type":"string"},{"name":"customerId","type":"string"},'
        '{"name":"items","type":{"type":"array","items":"string"}},{"name":"totalAmount","type":"double"},'
        '{"name":"createdAt","type":"long"}]}'
    ),
    "lines": f"{HEAD}{SECOND_FIELDS}]}}",
    "placed_at": (
        f'{HEAD}{SECOND_FIELDS},{{"name":"placed_at","type":["null",{{"type":"long","logicalType":"timestamp-micros"}}],'
        '"doc":"When the customer ordered, where that is older than the event.","default":null}]}'
    ),
}
LINE = OrderLine(product="85123A", quantity=6, unit_price=Decimal("2.55"))
SECOND = "066f2d32020e632d3137383530021c556e69746564204b696e67646f6d020c353336333635020c3835313233410c04639c00060255a8"
EVENTS: list[tuple[str, str, OrderCreated]] = [
    (
        "the first shop",
        "066f2d310e632d3137383530060c3835313233410a37313035330c383531323341007b14ae47e1fa21408087ce90944b",
        OrderCreated(
            order_id="o-1",
            customer_id="c-17850",
            lines=(
                OrderLine(product="85123A", quantity=2, unit_price=Decimal("2.9966")),
                OrderLine(product="71053", quantity=1, unit_price=Decimal("2.9966")),
            ),
            total=Decimal("8.99"),
            placed_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        ),
    ),
    (
        "lines",
        SECOND,
        OrderCreated(
            order_id="o-2",
            customer_id="c-17850",
            country="United Kingdom",
            reference="536365",
            lines=(LINE,),
            total=Decimal("15.3"),
        ),
    ),
    (
        "placed_at",
        f"{SECOND}0280d8e6e1a195cb04",
        OrderCreated(
            order_id="o-2",
            customer_id="c-17850",
            country="United Kingdom",
            reference="536365",
            lines=(LINE,),
            total=Decimal("15.3"),
            placed_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        ),
    ),
]


def stored(form: str, payload: str) -> tuple[Contracts, bytes]:
    """The record as it lies on the topic, and the contracts of a service that starts today."""
    registry = SimulatedRegistry()
    schema_id = registry.register(f"orders.events-{form}", FORMS[form])
    return Contracts(registry), b"\0" + schema_id.to_bytes(4, "big") + bytes.fromhex(payload)


@pytest.mark.parametrize(("form", "payload", "event"), EVENTS, ids=FORMS)
def test_every_form_is_read_as_todays(form: str, payload: str, event: OrderCreated) -> None:
    contracts, record = stored(form, payload)
    assert contracts.decoder([orders]).decode(record) == event
    contracts.register([OrderCreated])
    assert contracts.decoder([orders]).decode(record) == event


def test_the_newest_form_is_the_class() -> None:
    assert [*FORMS.values()][-1] == schema_text(OrderCreated)


def test_people_see_what_was_written() -> None:
    contracts, record = stored(*EVENTS[0][:2])
    assert contracts.decode_any(orders, record)["items"] == ["85123A", "71053", "85123A"]


@pytest.mark.parametrize("total", ["000000000000f87f", "000000000000f07f", "ffffffffffffef7f"])
def test_an_amount_that_is_none_becomes_a_dead_letter(total: str) -> None:
    """Not a number, infinite, and more than money has digits."""
    form, payload, _ = EVENTS[0]
    contracts, record = stored(form, payload.replace("7b14ae47e1fa2140", total))
    with pytest.raises(DecodeError, match=r"com\.example\.orders\.OrderCreated to OrderCreated") as raised:
        contracts.decoder([orders]).decode(record)
    assert raised.value.reason == "upcast_failed"


def test_every_form_is_a_schema() -> None:
    fields: list[Any] = [msgspec.json.decode(form)["fields"] for form in FORMS.values()]
    assert [len(of) for of in fields] == [5, 6, 7]
