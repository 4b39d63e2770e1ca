"""The stores of the partitions that an instance holds, wherever they are written to."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from millstream.state.memory import AnyMemoryStore

S = TypeVar("S")


class PartitionedStores(Generic[S]):
    """Stores by partition and declaration, in memory. Used by one thread."""

    def __init__(self) -> None:
        self._held: dict[int, dict[S, AnyMemoryStore]] = {}

    @property
    def held(self) -> set[int]:
        """The partitions whose stores are in memory."""
        return set(self._held)

    def stores(self, partition: int) -> dict[S, AnyMemoryStore]:
        """Return the stores of one partition. Raises `KeyError` for one that is not in memory."""
        return self._held[partition]

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions that another instance has from now on."""
        for partition in partitions:
            self._held.pop(partition, None)

    def commit(self) -> None:
        """Note that the transaction with the changes is committed."""
        for store in self._all():
            store.commit()

    def rollback(self) -> None:
        """Go back to what was committed last: the transaction was aborted."""
        for store in self._all():
            store.rollback()

    def _all(self) -> Iterator[AnyMemoryStore]:
        for stores in self._held.values():
            yield from stores.values()
