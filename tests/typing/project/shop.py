"""A small system, complete: what both type checkers must accept as it is."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Self

from sqlalchemy import BigInteger, Column, MetaData, String, Table, select
from sqlalchemy.orm import Session

from millstream import (
    FOREVER,
    Call,
    Command,
    Deleted,
    Envelope,
    Event,
    Personal,
    Retry,
    Service,
    State,
    Store,
    System,
    Timer,
    Timers,
    Topic,
    Value,
    days,
    dead_letter,
    exponential,
    minutes,
    park_key,
    seconds,
    upcasts,
)
from millstream.patterns.aggregate import Aggregate, decides, evolves
from millstream.patterns.saga import Saga, Story, Undo
from millstream.patterns.view import View
from millstream.patterns.view.sql import SqlSink
from millstream.settings import Settings


class Line(Value, namespace="shop"):
    product: str
    quantity: int = 1


class OrderEvent(Event, key="order_id", namespace="shop"):
    order_id: str


class Placed(OrderEvent, aliases=("Created",)):
    lines: tuple[Line, ...] = ()
    email: Annotated[str | None, Personal] = None


class Shipped(OrderEvent): ...


class Lost(OrderEvent):
    reason: str


class Charge(Command, key="order_id"):
    order_id: str
    cents: int


class Refund(Command, key="order_id"):
    order_id: str


class Charged(OrderEvent): ...


class Refunded(OrderEvent): ...


class Completed(OrderEvent): ...


class Cancelled(OrderEvent):
    reason: str | None = None


class Overdue(Timer, key="order_id"):
    order_id: str


class Product(Event, key="product"):
    product: str


class Cancel(Command, key="order_id"):
    order_id: str


class CancelRefused(OrderEvent): ...


class Withdrawn(OrderEvent): ...


placed = Topic("shop.placed", Placed, Lost, retention=FOREVER)
parcels = Topic("shop.parcels", Shipped, Completed, Cancelled)
commands = Topic("shop.commands", Charge, Refund, Cancel, retention=days(7))
payments = Topic("shop.payments", Charged, Refunded)
products = Topic("shop.products", Product, compacted=True)
withdrawals = Topic("shop.withdrawals", Withdrawn, CancelRefused, retention=FOREVER)


@upcasts(Placed, "com.example.Placed", having="items")
def from_the_first_shop(old: dict[str, object]) -> Placed:
    return Placed(order_id=str(old["id"]))


class Parcel(Value):
    weight: int


PARCELS = Store("parcels", Parcel)
tables = MetaData()
stock = Table("stock", tables, Column("product", String, primary_key=True))
rows = Table("rows", tables, Column("order_id", String, primary_key=True), Column("version", BigInteger))


class Gateway:
    async def charge(self, cents: int, *, key: str) -> bool:
        return cents > 0 and bool(key)


# Kafka state
shop = Service("shop", tables=tables, publishes=[Placed, Deleted[Product]], max_parked=100)


@shop.on(Placed, retry=Retry(attempts=5, backoff=exponential(0.2)), on_failure=park_key)
def ship(order: Placed, parcels: Annotated[State[Parcel], PARCELS], timers: Timers) -> Iterator[Shipped | Lost]:
    before = parcels.get(order.order_id)
    parcels.put(order.order_id, Parcel(weight=before.weight + 1 if before else 1))
    timers.set(Overdue(order_id=order.order_id), after=minutes(5))
    yield Shipped(order_id=order.order_id)


@shop.on(Overdue)
def overdue(due: Overdue, envelope: Envelope) -> Lost | None:
    return Lost(order_id=due.order_id, reason=envelope.type)


@shop.on(Deleted[Product])
def gone(product: Deleted[Product]) -> None:
    assert product.key


# SQL state
@shop.on(Product)
def keep(product: Product, db: Session) -> None:
    if db.scalar(select(stock.c.product).where(stock.c.product == product.product)) is None:
        db.execute(stock.insert().values(product=product.product))


# Effects
payment = Service("payment")


@payment.provides
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    yield Gateway()


@payment.effect(Charge, timeout=seconds(10), on_failure=dead_letter)
async def charge(command: Charge, call: Call, gateway: Gateway) -> Charged | None:
    if await gateway.charge(command.cents, key=call.key):
        return Charged(order_id=command.order_id)
    return None


@payment.effect(Refund)
async def refund(command: Refund) -> Refunded:
    return Refunded(order_id=command.order_id)


# An aggregate
class Order(Aggregate, unchanged_by=(CancelRefused,)):
    withdrawn: bool = False

    @decides
    def cancel(self, command: Cancel) -> Withdrawn | CancelRefused:
        if self.withdrawn:
            return CancelRefused(order_id=command.order_id)
        return Withdrawn(order_id=command.order_id)

    @evolves
    def cancelled(self, event: Withdrawn) -> Self:
        return type(self)(withdrawn=True)


Order.mount(shop)


# A saga
def charge_for(story: Story) -> Charge:
    return Charge(order_id=story.id, cents=sum(line.quantity for line in story[Placed].lines))


billing = Service("billing")
(
    Saga("billing", starts=Placed)
    .step(charge_for, done=Charged, undo=Undo(Refund, done=Refunded), within=minutes(2))
    .completes(Completed)
    .cancels(Cancelled)
    .mount(billing)
)


# A view
class Row(Value):
    order_id: str
    steps: int = 0


orders = View("orders", Row, topic="shop.rows", sinks=[SqlSink(rows)])
read_model = Service("read-model", tables=tables)


@orders.on(Placed)
def created(event: Placed, row: Row | None) -> Row:
    return row or Row(order_id=event.order_id)


@orders.on(Completed)
def completed(event: Completed, row: Row | None, envelope: Envelope) -> Row | None:
    return None


orders.mount(read_model)
system = System("shop", services=["shop:shop", "shop:payment", "shop:billing", "shop:read_model"])
