"""One partition of a store, in memory."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from millstream.declare import Store, Value
from millstream.errors import EncodeError
from millstream.state.ownership import Ownership

V = TypeVar("V")
C = TypeVar("C", covariant=True)
D = TypeVar("D", bound=Value)


class Declared(Protocol[C]):
    """A declaration that says of what class a store's values are."""

    @property
    def value(self) -> type[C]: ...


_NEVER: Any = object()
"""In an undo entry: the transaction had not touched the key before."""


class MemoryStore(Generic[V]):
    """Values by key, with two ways back: one event's writes, and everything since the last commit.

    It is what a handler gets as its `State`. Values are encoded when they are put, so that one that does not fit its
    schema raises `EncodeError` at the line that put it.

    - `encode`, `decode`: between values and what the changelog carries.
    - `max_bytes`: how large a value may be.
    """

    def __init__(
        self,
        store: Declared[V],
        encode: Callable[[V], bytes] | None = None,
        decode: Callable[[bytes], V] | None = None,
        max_bytes: int = sys.maxsize,
    ) -> None:
        self._store = store
        self._class = store.value
        self._encode = encode or _nothing
        self._decode = decode
        self.max_bytes = max_bytes
        self.ownership: Ownership | None = None
        """The rule for the keys that it takes; all, where there is none."""
        # Restored values stay bytes until they are asked for: a restore is quick, and most keys never wake up.
        self._values: dict[str, V | bytes] = {}
        self._dirty: dict[str, bytes | None] = {}
        self._before: dict[str, V | bytes | None] = {}
        self._undo: list[tuple[str, V | bytes | None, bytes | None]] = []

    def get(self, key: str, /) -> V | None:
        """The value, or `None`."""
        value = self._values.get(key)
        if type(value) is bytes:
            value = self._wake(key, value)
        return value  # type: ignore[return-value] # no bytes any more

    def put(self, key: str, value: V, /) -> None:
        """Keep `value` under `key`.

        Raises `TypeError` for another class, `EncodeError` for what does not fit, and `Rejected` (`foreign_key`) for a
        key of another partition.
        """
        if (ownership := self.ownership) is not None and key != ownership.present.key:
            ownership.check(key)
        if type(value) is not self._class:
            raise TypeError(f"{self._store} keeps {self._class.__name__}, not {type(value).__name__}")
        raw = self._encode(value)
        if len(raw) > self.max_bytes:
            raise EncodeError(
                f"{self._store}: the value of {key!r} has {len(raw):,} bytes, more than its changelog takes "
                f"({self.max_bytes:,}). Keep less under one key, or raise message.max.bytes here and for the topic"
            )
        self._write(key, value, raw)

    def delete(self, key: str, /) -> None:
        """Forget `key`; no error where it is absent, unless it belongs to another partition."""
        if key in self._values:
            self._write(key, None, None)
        elif (ownership := self.ownership) is not None and key != ownership.present.key:
            ownership.check(key)

    def items(self) -> Iterator[tuple[str, V]]:
        """All keys of this partition with their values, as they are now, in no order."""
        for key in list(self._values):
            value = self.get(key)
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        return len(self._values)

    def keep_event(self) -> None:
        """The event is done: its writes stay, whatever the next event does."""
        if self._undo:
            self._undo.clear()

    def undo_event(self) -> None:
        """Take back what was written since the last `keep_event`."""
        while self._undo:
            key, value, dirty = self._undo.pop()
            self._set(key, value)
            if dirty is _NEVER:
                del self._dirty[key], self._before[key]
            else:
                self._dirty[key] = dirty

    def changes(self) -> dict[str, bytes | None]:
        """The changes of the transaction, each key once: its newest bytes, or `None` where it was deleted."""
        return self._dirty

    def commit(self) -> None:
        """The changes are in the changelog: forget how to go back."""
        self._dirty.clear()
        self._before.clear()
        self._undo.clear()

    def rollback(self) -> None:
        """Take back everything since the last commit."""
        for key, value in self._before.items():
            self._set(key, value)
        self.commit()

    def restore(self, key: str, value: bytes | None) -> None:
        """Apply one record of the changelog."""
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def _write(self, key: str, value: V | None, raw: bytes | None) -> None:
        now = self._values.get(key)
        self._undo.append((key, now, self._dirty.get(key, _NEVER)))
        self._before.setdefault(key, now)
        self._dirty[key] = raw
        self._set(key, value)

    def _set(self, key: str, value: V | bytes | None) -> None:
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def _wake(self, key: str, raw: bytes) -> V:
        assert self._decode is not None
        value = self._values[key] = self._decode(raw)
        return value


AnyMemoryStore: TypeAlias = MemoryStore[Any]


def memory(store: Store[D]) -> MemoryStore[D]:
    """A store for calling a handler in a test, with nothing running.

    >>> class Parcel(Value):
    ...     weight: int
    >>> parcels = memory(Store("parcels", Parcel))
    >>> parcels.put("o-1", Parcel(weight=3))
    >>> parcels.get("o-1")
    Parcel(weight=3)
    """
    return MemoryStore(store)


def _nothing(value: Any) -> bytes:
    return b""
