"""Mistakes that were planted into the runtime: worlds of the order system find each of them, and so does the auditor.

A mistake is planted at the narrowest place where somebody could make it. The same worlds are right without it.
"""

from collections.abc import Callable, Set
from typing import Any, NamedTuple

import pytest

from millstream.kafka import Offsets
from millstream.runtime.effect.calls import Calls
from millstream.runtime.effect.in_flight import InFlight, KeyQueue
from millstream.runtime.effect.watermark import Watermark
from millstream.runtime.loop.transaction import ExactlyOnce, Member
from millstream.runtime.task.key_queues import KeyQueues
from millstream.runtime.task.timers import PartitionTimers
from millstream.testing.simulation import ROUGH, World
from orders.contracts import OrderCancelled
from orders.simulation import scenario

pytestmark = pytest.mark.slow


def offsets_before_the_transaction(planted: pytest.MonkeyPatch) -> None:
    """What dies between the two has done nothing, and is not done again."""

    def early(self: ExactlyOnce, consumer: Member, offsets: Offsets, metadata: Any = None) -> None:
        consumer.commit(offsets, metadata)
        self._producer.commit()

    planted.setattr(ExactlyOnce, "commit", early)


def position_skipped(planted: pytest.MonkeyPatch) -> None:
    """The position of effects goes past those that are on their way."""

    def hasty(self: Watermark, finished: Set[int], mark: str = "") -> tuple[int, str]:
        return self._end, f"#{mark}" if mark else ""

    planted.setattr(Watermark, "progress", hasty)


def effects_overtake(planted: pytest.MonkeyPatch) -> None:
    """An event of a parked key gets a queue beside that of the key."""
    queue_for = Calls._queue_for

    def another(self: Calls, item: InFlight) -> KeyQueue:
        self._queues = {name: queue for name, queue in self._queues.items() if not queue.parked}
        return queue_for(self, item)

    planted.setattr(Calls, "_queue_for", another)


def events_overtake(planted: pytest.MonkeyPatch) -> None:
    """The same where handlers have a database."""
    planted.setattr(KeyQueues, "__contains__", lambda self, key: False)


def compensation_twice(planted: pytest.MonkeyPatch) -> None:
    """The void of a cancelled order that succeeds at a later attempt is told of twice."""
    done = Calls._done

    def again(self: Calls, item: InFlight, *rest: Any) -> None:
        done(self, item, *rest)
        if item.parked and isinstance(item.event, OrderCancelled):
            done(self, item, *rest)

    planted.setattr(Calls, "_done", again)


def timer_dropped(planted: pytest.MonkeyPatch) -> None:
    """What is to happen after a while does not."""
    planted.setattr(PartitionTimers, "set", lambda self, timer, **when: None)


class Planted(NamedTuple):
    """A mistake, what it leads to, and worlds in which it shows: from seed `first` on, within a few.

    - `tells`: the beginning of what the world says is wrong; `audit:` is what the auditor finds in the log alone.
    """

    mistake: Callable[[pytest.MonkeyPatch], None]
    tells: str
    ends: str
    first: int = 0
    handler_error: float = ROUGH.handler_error
    garbled: float = 0.0

    def world(self, seed: int) -> list[str]:
        """What is wrong in the end."""
        with World(seed, ROUGH._replace(handler_error=self.handler_error)) as world:
            return scenario(world, orders=50, garbled=self.garbled, delivered=0.6)

    def shows(self, wrong: list[str]) -> bool:
        """Whether something is wrong because of it."""
        return any(found.startswith(self.tells) and found.endswith(self.ends) for found in wrong)


MISTAKES = (
    Planted(offsets_before_the_transaction, "audit: order: ends exactly once", "it has not ended", first=3),
    Planted(position_skipped, "audit: order: ends exactly once", "it has not ended", first=18),
    Planted(effects_overtake, "the customer of order", "was told how it ended before that it is created", first=2),
    Planted(
        events_overtake,
        "audit: order: inventory looks",
        "nobody has said whether its goods are there",
        handler_error=0.3,
    ),
    Planted(compensation_twice, "audit: order: cancelled costs nothing", "it was refunded 2 times", first=7),
    Planted(timer_dropped, "audit: return: ends once", "it has not ended", garbled=1.0),
)
SEEDS = 8
"""Within which each has to be found."""


@pytest.mark.parametrize("planted", MISTAKES, ids=lambda planted: planted.mistake.__name__)
def test_a_planted_mistake_is_found_and_named(planted: Planted):
    with pytest.MonkeyPatch.context() as patch:
        planted.mistake(patch)
        seeds = range(planted.first, planted.first + SEEDS)
        found = next((seed for seed in seeds if planted.shows(planted.world(seed))), None)
    assert found is not None, "the mistake does not show in any of these worlds"
    assert planted.world(found) == [], "and without it the same world is right"
