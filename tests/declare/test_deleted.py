"""`Deleted[Order]`: a class for the tombstones of a topic, refused where there can be none."""

from typing import Any

import pytest

from millstream import Command, Deleted, Event, Service, Topic, Value
from millstream.declare import home_of, key_field, tombstone_of
from millstream.errors import DeclarationError
from millstream.patterns.aggregate import Aggregate, decides, evolves
from millstream.patterns.view import View


class Product(Event, key="code"):
    code: str


class Change(Event, key="code"):
    code: str


class Skipped(Event, key="code"):
    code: str


class One(Event, key="code"):
    code: str


class Other(Event, key="code"):
    code: str


class Withdraw(Command, key="code"):
    code: str


class Withdrawn(Event, key="code"):
    code: str


products = Topic("deleted.products", Product, compacted=True)
changes = Topic("deleted.changes", Change)
skipped = Topic("deleted.skipped", Skipped, compacted=True, tombstones="skip")
both = Topic("deleted.both", One, Other, compacted=True)
events = Topic("deleted.events", Withdrawn, retention=products.retention.max)


def test_a_deletion_is_a_class_of_its_own_on_the_topic_of_what_it_deletes():
    assert Deleted[Product] is Deleted[Product]
    assert Deleted[Product] is not Deleted[Change]
    assert home_of(Deleted[Product]) is products
    assert key_field(Deleted[Product]) == "key"
    assert tombstone_of(products) == Deleted[Product](key="")
    assert tombstone_of(changes) is None
    assert type(tombstone_of(skipped)) is type(tombstone_of(both)) is Deleted


@pytest.mark.parametrize("what", [Event, Command, Value, int, "Product", Deleted[Product]])
def test_only_the_deletion_of_an_event_class_exists(what: Any):
    with pytest.raises(DeclarationError, match="name one event class of a compacted topic"):
        _ = Deleted[what]


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (Change, r"'deleted\.changes' has tombstones='refuse'.*compacted=True.*tombstones=\"handle\""),
        (Skipped, r"'deleted\.skipped' has tombstones='skip'.*drop tombstones=\"skip\""),
        (One, r"'deleted\.both' lists One, Other, and a tombstone names no class.*a topic of its own"),
    ],
)
def test_a_handler_of_deletions_that_never_come_is_refused(contract: Any, message: str):
    service = Service("deletions")
    with pytest.raises(DeclarationError, match=message):

        @service.on(Deleted[contract])
        def gone(deleted: Deleted[Any]) -> None: ...

    class Row(Value):
        code: str

    view = View("rows", Row, topic="deleted.rows")
    with pytest.raises(DeclarationError, match=message):

        @view.on(Deleted[contract])
        def row_gone(deleted: Deleted[Any], row: Row | None) -> None: ...


def test_a_deletion_is_published_only_where_it_deletes():
    class Handled(Event, key="code"):
        code: str

    Topic("deleted.handled", Handled, tombstones="handle")
    service = Service("deletions")
    message = r"gone publishes Deleted\[Handled\], and 'deleted\.handled' is not compacted"
    with pytest.raises(DeclarationError, match=message):

        @service.on(Product)
        def gone(product: Product) -> Deleted[Handled]: ...  # pyright: ignore[reportInvalidTypeForm]

    with pytest.raises(DeclarationError, match=message):

        @service.on(Product, publishes=(Deleted[Handled],))
        def gone(product: Product): ...

    with pytest.raises(DeclarationError, match=message.replace("gone", "web handlers")):
        Service("deletions", publishes=[Deleted[Handled]]).check()

    @service.on(Deleted[Handled])
    def handled(product: Deleted[Handled]) -> Deleted[Product]: ...

    assert service.produced() == (Deleted[Product],)


def test_an_aggregate_decides_on_a_deletion_of_its_key():
    class Item(Aggregate):
        withdrawn: bool = False

        @decides
        def withdraw(self, product: Deleted[Product]) -> Withdrawn:
            return Withdrawn(code=product.key)

        @evolves
        def gone(self, event: Withdrawn) -> "Item":
            return Item(withdrawn=True)

    service = Service("items")
    Item.mount(service)
    assert service.handlers[0].consumes == (Deleted[Product],)
    assert Item().withdraw(Deleted[Product](key="p-1")) == Withdrawn(code="p-1")
