"""Stores: keyed state of a handler, partitioned as its input and rebuilt from a changelog."""

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from millstream.declare.checks import check_name
from millstream.declare.contract import Value
from millstream.declare.fields import check_fields
from millstream.errors import DeclarationError

V = TypeVar("V", bound=Value)
S = TypeVar("S")


class Store(Generic[V]):
    """Declares a store of `value` records by business key.

    - `name`: unique in its service.
    - `value`: the class of what it keeps.
    - `topic`: the compacted changelog; by default `<service>.<name>.changelog`. A view names its own.

    A handler asks for it by annotation and gets a `State`:

    >>> from typing import Annotated
    >>> class Parcel(Value):
    ...     weight: int
    >>> PARCELS = Store("parcels", Parcel)
    >>> def schedule(parcels: Annotated[State[Parcel], PARCELS]) -> None: ...
    """

    def __init__(self, name: str, value: type[V], *, topic: str | None = None) -> None:
        if not (isinstance(value, type) and issubclass(value, Value)):  # pyright: ignore[reportUnnecessaryIsInstance] users without a type checker
            raise DeclarationError(f"Store {name!r} keeps {value!r}: make it a subclass of millstream.Value")
        check_fields(value, "avro")
        check_name(f"Store {name!r}", name)
        if topic is not None:
            check_name(f"Store {name!r}: topic {topic!r}", topic)
        self.name = name
        self.value: type[V] = value
        self.topic = topic

    def changelog(self, service: str) -> str:
        """The compacted topic that this store is rebuilt from."""
        return self.topic or f"{service}.{self.name}.changelog"

    def __repr__(self) -> str:
        return f"Store({self.name!r}, {self.value.__name__})"


class State(Protocol[S]):
    """A store as a handler sees it: the values of the keys of its partition.

    Writes of a handler that raises are undone. Values are frozen: put a new one to change one.
    """

    def get(self, key: str, /) -> S | None:
        """The value, or `None`."""
        ...

    def put(self, key: str, value: S, /) -> None:
        """Keep `value` under `key`: that of the event, or another one of its partition.

        Raises `Rejected` (`foreign_key`) for a key of another partition, where nothing would find it.
        """
        ...

    def delete(self, key: str, /) -> None:
        """Forget `key`; no error where it is absent."""
        ...

    def items(self) -> Iterator[tuple[str, Any]]:
        """All keys of this partition with their values, in no order."""
        ...
