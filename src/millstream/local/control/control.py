"""What a test may ask of a running broker, apart from how it is asked."""

import asyncio
from collections.abc import Callable
from typing import Any

from millstream.local.broker import Broker
from millstream.local.faults.clock import ShiftedClock
from millstream.local.faults.rules import Rule, Rules

MAX_WAIT_SECONDS = 600.0
MAX_ADVANCE_SECONDS = 10 * 365 * 86_400.0
_LOOK_SECONDS = 0.005


class TooLate(Exception):
    """What was waited for did not come in time; the message says how things stand."""


class Unknown(Exception):
    """There is no such thing; the message names it."""


class Control:
    """One broker, its rules and its clock. `rearm` makes whoever runs its timers look at them again."""

    def __init__(self, broker: Broker, rules: Rules, clock: ShiftedClock, rearm: Callable[[], None]) -> None:
        self.rules = rules
        self._broker = broker
        self._clock = clock
        self._rearm = rearm

    def rule(self, number: int) -> Rule:
        """Raises Unknown."""
        if number not in self.rules.by_id:
            raise Unknown(f"no rule {number}; it was removed, or made before the broker was restarted")
        return self.rules.by_id[number]

    async def wait_for_hits(self, rule: Rule, hits: int, seconds: float) -> None:
        """Raises TooLate."""
        struck = asyncio.Event()
        rule.on_hit.add(struck.set)
        try:
            async with asyncio.timeout(seconds):
                while rule.hits < hits:
                    struck.clear()
                    await struck.wait()
        except TimeoutError:
            raise TooLate(f"{rule.hits} of {hits} hits after {seconds:g} s ({rule.seen} requests fitted)") from None
        finally:
            rule.on_hit.discard(struck.set)

    async def wait_for_group(self, name: str, members: int | None, seconds: float) -> dict[str, Any]:
        """The group, once it is stable with `members` members, or with any; no members is an empty group. Raises
        TooLate."""
        wanted = ("Empty", "Dead") if members == 0 else ("Stable",)
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            told = self.group(name)
            if told["state"] in wanted and members in (None, len(told["members"])):
                return told
            if asyncio.get_running_loop().time() >= deadline:
                count = "any" if members is None else members
                raise TooLate(
                    f"group {name!r} is {told['state']} with {len(told['members'])} members after {seconds:g} s; "
                    f"{wanted[0]} with {count} was waited for"
                )
            await asyncio.sleep(_LOOK_SECONDS)  # a group has no bell, and a test's time is short

    def group(self, name: str) -> dict[str, Any]:
        """State, generation and members of a group; one that nobody has heard of is "Dead"."""
        group = self._broker.groups.by_id.get(name)
        if group is None:
            return {"group": name, "state": "Dead", "members": []}
        members = [
            {"id": m.id, "client_id": m.client_id, "instance_id": m.instance_id, "host": m.client_host}
            for m in group.members.values()
        ]
        return {"group": name, "state": str(group.state), "generation": group.generation, "members": members}

    def advance(self, seconds: float) -> dict[str, float]:
        """Put the clock forward: what falls due meanwhile is done before this returns."""
        self._clock.advance(round(seconds * 1000))
        self._broker.timers.run_due()
        self._broker.settle()
        self._rearm()
        return self.time()

    def time(self) -> dict[str, float]:
        return {"now": self._clock() / 1000, "ahead": self._clock.ahead_ms / 1000}

    def expire(self) -> None:
        """Let retention take what is due, now."""
        self._broker.housekeeping.run()
        self._broker.settle()

    def compact(self, topic: str) -> None:
        """Leave the last record of every key. Raises Unknown."""
        if topic not in self._broker.topics.by_name:
            raise Unknown(f"no topic {topic!r}")
        self._broker.housekeeping.compact(topic)
        self._broker.settle()
