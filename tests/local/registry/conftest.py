from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from millstream.local.registry import TopicLog, serve


class ListLog:
    """A topic log in a list: what the registry wrote outlives the registry, and a test can read it."""

    def __init__(self) -> None:
        self.topics: dict[str, list[tuple[bytes, bytes | None]]] = {}
        self.broken: Exception | None = None
        """Raised by whatever is asked next, until it is taken away."""

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        self.topics.setdefault(topic, [])

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        self._check()
        first = len(self.topics[topic])
        self.topics[topic] += records
        return first

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        self._check()
        records = self.topics[topic][from_offset:]
        return [(from_offset + i, key, value) for i, (key, value) in enumerate(records)]

    async def cluster_id(self) -> str:
        return "a-list"

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken


@contextmanager
def running_registry(log: TopicLog) -> Iterator[httpx.Client]:
    with start_blocking_portal() as portal:
        registry = portal.call(serve, log, "127.0.0.1", 0)
        try:
            with httpx.Client(base_url=registry.url, timeout=60) as client:
                yield client
        finally:
            portal.call(registry.close)


@pytest.fixture
def run_registry() -> Callable[[TopicLog], AbstractContextManager[httpx.Client]]:
    return running_registry


@pytest.fixture
def log() -> ListLog:
    return ListLog()


@pytest.fixture
def registry(log: ListLog) -> Iterator[httpx.Client]:
    with running_registry(log) as client:
        yield client
