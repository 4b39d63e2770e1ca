"""Deletions: records of a key without a value, which Kafka calls tombstones."""

from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from millstream.declare.contract import Command, Contract, Event, Value, ValueMeta
from millstream.errors import DeclarationError

C = TypeVar("C", bound=Contract)


class Deleted(Contract, Generic[C], key="key"):
    """The deletion of what a topic keeps under `key`: a tombstone, a record of that key without a value.

    `Deleted[Order]` is a class like any event's, and lives on the topic of `Order`. A handler takes it, a view deletes
    its row by it, and a handler that returns it publishes a tombstone. Compaction removes the key's older records, and
    later the tombstone itself (`delete.retention.ms`, 24 hours by default): who reads later sees neither.

    A tombstone names no class, so the topic must carry one class alone, and must let tombstones in: a compacted one
    does, see `Topic`. To publish one, the topic must be compacted: elsewhere it would delete nothing.

    >>> from millstream.declare import Service, Topic
    >>> class Product(Event, key="code"):
    ...     code: str
    ...     title: str
    >>> products = Topic("doctest.products", Product, compacted=True)
    >>> catalogue = Service("catalogue")
    >>> @catalogue.on(Deleted[Product])
    ... def withdrawn(product: Deleted[Product]) -> None:
    ...     print(product.key, "is gone")
    >>> withdrawn(Deleted[Product](key="22465"))
    22465 is gone
    """

    key: str

    if not TYPE_CHECKING:

        def __class_getitem__(cls, contract: Any) -> Any:
            # A class of its own for each: a worker finds handlers by the class of what it decoded.
            if isinstance(contract, TypeVar):
                return super().__class_getitem__(contract)
            if contract is Any:
                return cls
            return deletion_of(contract)


@cache
def deletion_of(contract: Any) -> Any:
    """`Deleted[contract]`. Raises `DeclarationError` for what is no event or command class."""
    if not _has_deletions(contract):
        given = getattr(contract, "__name__", contract)
        raise DeclarationError(f"Deleted[{given}]: name one event class of a compacted topic, as in Deleted[Order]")
    name = f"Deleted[{contract.__name__}]"
    body = {
        "__module__": contract.__module__,
        "__qualname__": name,
        "__doc__": f"The deletion of what is kept under a key of {contract.__name__}: a record without a value.",
        "__deletes__": contract,
    }
    return ValueMeta(name, (Deleted,), body)


def deleted_class(contract: type[Value]) -> type[Contract] | None:
    """The class that `contract` is the deletion of; `None` for other classes.

    >>> class Order(Event, key="order_id"):
    ...     order_id: str
    >>> deleted_class(Deleted[Order]) is Order, deleted_class(Order)
    (True, None)
    """
    return contract.__deletes__


def _has_deletions(contract: object) -> bool:
    return isinstance(contract, type) and issubclass(contract, Event | Command) and contract not in (Event, Command)
