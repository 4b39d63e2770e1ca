"""The catalog and the topic behind it: read to the end, decide, append, and let the log change the catalog."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, TypeVar

from millstream.local.registry import records
from millstream.local.registry.catalog import Catalog
from millstream.local.registry.errors import store_failed
from millstream.local.registry.log import Overtaken, TopicLog
from millstream.local.registry.records import Record

T = TypeVar("T")
Decision = Callable[[], Awaitable[tuple[Sequence[Record], T]]]
"""Looks at the catalog; tells what to append (nothing: there is nothing to do) and what to answer then."""

ATTEMPTS = 20
_log = logging.getLogger(__name__)


class Store:
    """One writer at a time here, and none that decided on what another registry has changed meanwhile."""

    def __init__(self, log: TopicLog) -> None:
        self.catalog = Catalog()
        self._log = log
        self._one_writer = asyncio.Lock()
        self._one_reader = asyncio.Lock()
        self._next_reading: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Create the topic if it is missing and read all of it. Raises what the log raises."""
        await self._log.create_topic(records.TOPIC, partitions=1, config={"cleanup.policy": "compact"})
        await self._read_on()

    async def catch_up(self) -> None:
        """Take in what other registries have written. Raises `Refusal` 50001.

        Whoever comes while the topic is being read shares the reading after that: in an outage nobody waits for more
        than two.
        """
        if self._next_reading is None:
            self._next_reading = asyncio.create_task(self._read_on(), name="schemas")
        try:
            await asyncio.shield(self._next_reading)
        except Exception as error:
            _failed(error)

    async def cluster_id(self) -> str:
        """The id of the cluster that keeps the topic. Raises `Refusal` 50001."""
        try:
            return await self._log.cluster_id()
        except Exception as error:
            _failed(error)

    async def _read_on(self) -> None:
        async with self._one_reader:
            self._next_reading = None
            self.catalog.apply(await self._log.read(records.TOPIC, 0, self.catalog.offset))

    async def change(self, decide: Decision[T]) -> T:  # noqa: RET503 (a failure is raised)
        """Append what `decide` says. It is asked again whenever the catalog changes under it.

        A refusal is raised before anything is written. Raises `Refusal` 50001 if others write without a pause.
        """
        async with self._one_writer:
            for _ in range(ATTEMPTS):
                await self.catch_up()
                seen = self.catalog.offset
                batch, answer = await decide()
                if not batch:
                    return answer
                if self.catalog.offset != seen:
                    continue
                try:
                    await self._log.append(records.TOPIC, 0, batch)
                except Overtaken:  # read what the other has written, and decide again
                    continue
                except Exception as error:
                    _failed(error)
                await self.catch_up()
                return answer
        store_failed(f"other registries have written first {ATTEMPTS} times running; try again")


def _failed(error: Exception) -> NoReturn:
    """Every log fails in its own ways; to a client they are one."""
    _log.warning(
        "the topic %s cannot be read or written: %s", records.TOPIC, error, extra={"code": "registry_topic_unavailable"}
    )
    store_failed(error)
