"""The runtime's own stores beside those of handlers: partitioned and rebuilt as those are, in a form of its own."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from millstream.errors import DecodeError
from millstream.state.memory import MemoryStore
from millstream.telemetry import get_logger

log = get_logger(__name__)

K = TypeVar("K", bound=msgspec.Struct)

encode_value = msgspec.msgpack.Encoder().encode
"""Return the form of a value in every internal store."""


@dataclass(frozen=True, eq=False)
class InternalStore(Generic[K]):
    """A store of the runtime's own.

    - `name`: for logs and metrics.
    - `topic`: its compacted changelog.
    - `value`: the class of its values, written as MessagePack: fields may come with defaults, or go.
    - `timed`: its values have a moment at which they are `due`, and are found by it.
    """

    name: str
    topic: str
    value: type[K]
    timed: bool = False

    def partition(self) -> MemoryStore[Any]:
        """One partition of it, empty."""
        kind = DueStore if self.timed else InternalMemoryStore
        return kind(self, encode_value, _reader(self.value))


class InternalMemoryStore(MemoryStore[Any]):
    """Values that are read as they are restored: they are few, and each of them will be needed."""

    def restore(self, key: str, value: bytes | None) -> None:
        super().restore(key, value)
        try:
            self.get(key)
        except DecodeError as error:
            # Foreign bytes must not keep the rest from being restored.
            log.warning(
                "a record of others in a store is skipped", code="foreign_store_record", key=key, error=str(error)
            )
            super().restore(key, None)


class DueStore(InternalMemoryStore):
    """Values that are `due` at some moment, in seconds since 1970, and can be asked for by it."""

    def __init__(
        self, store: InternalStore[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        super().__init__(store, encode, decode)
        self._moments: list[tuple[float, str]] = []
        self._postponed: dict[str, float] = {}

    def next_due(self) -> float | None:
        """The moment of the earliest value, or `None` where there is none."""
        while self._moments:
            moment, key = self._moments[0]
            value = self.get(key)
            if value is not None and moment == self._postponed.get(key, value.due):
                return moment
            heapq.heappop(self._moments)
        return None

    def due(self, now: float) -> tuple[str, Any] | None:
        """The earliest value that is due by `now`, and its key. It stays until it is deleted or moved."""
        moment = self.next_due()
        if moment is None or moment > now:
            return None
        key = self._moments[0][1]
        return key, self.get(key)

    def postpone(self, key: str, moment: float) -> None:
        """Postpone a due value until `moment`. The value stays as it is: written again, it is due as it says."""
        self._postponed[key] = moment
        heapq.heappush(self._moments, (moment, key))

    def restore(self, key: str, value: bytes | None) -> None:
        super().restore(key, value)
        self._remind(key)

    def _set(self, key: str, value: Any) -> None:
        # Every way to change a value comes here, those back included.
        super()._set(key, value)
        self._postponed.pop(key, None)
        self._remind(key)

    def _remind(self, key: str) -> None:
        if (value := self.get(key)) is not None:
            heapq.heappush(self._moments, (value.due, key))


def _reader(value: type[K]) -> Callable[[bytes], K]:
    decode = msgspec.msgpack.Decoder(value).decode

    def read(raw: bytes) -> K:
        try:
            return decode(raw)
        except msgspec.MsgspecError as error:
            raise DecodeError("malformed", f"no {value.__name__}: {error}") from None

    return read
