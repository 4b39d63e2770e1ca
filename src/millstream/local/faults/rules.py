"""The rules in force: which request meets which, and how often each has struck."""

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from millstream.local.broker.api.table import FETCH
from millstream.local.faults.fault import Fault, Faults
from millstream.local.faults.names import NAMES, error_of, key_of
from millstream.local.faults.request import Request

REMEMBERED = 1000


class Rule:
    """A fault at work. `seen`: how many requests fitted; `hits`: how many of them it struck.

    `requests` are the last thousand that it struck, oldest first. `on_hit` are called after each.
    """

    def __init__(self, number: int, fault: Fault, rules: "Rules") -> None:
        self.id = number
        self.fault = fault
        self.key = None if fault.api is None else key_of(fault.api)
        self.error = None if fault.error is None else error_of(fault.error)
        self.seen = 0
        self.hits = 0
        self.requests: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self.on_hit: set[Callable[[], None]] = set()
        self._rules = rules

    def remove(self) -> None:
        """It strikes no more; nothing happens if it is gone already."""
        self._rules.remove(self.id)

    def fits(self, request: Request) -> bool:
        fault = self.fault
        return (
            (self.key is None or self.key == request.key)
            and (fault.client_id is None or fault.client_id == request.client_id)
            and (fault.topic is None or fault.topic in request.topics)
            and (fault.group is None or fault.group in request.groups)
            and (fault.transactional_id is None or fault.transactional_id in request.transactional_ids)
        )

    def strikes(self, request: Request) -> bool:
        """Count a request that fits; whether it is this one's turn."""
        self.seen += 1
        if self.seen <= self.fault.skip or (self.fault.times is not None and self.hits >= self.fault.times):
            return False
        self.hits += 1
        self.requests.append(
            {
                "api": NAMES[request.key],
                "version": request.version,
                "client_id": request.client_id,
                "topics": sorted(request.topics),
                "groups": sorted(request.groups),
                "transactional_ids": sorted(request.transactional_ids),
            }
        )
        for action in tuple(self.on_hit):
            action()
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id, "fault": self.fault.to_json(),
            "seen": self.seen, "hits": self.hits, "requests": list(self.requests),
        }  # fmt: skip

    def __enter__(self) -> "Rule":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def kill_this_process() -> None:
    """As the kernel would end this process for want of memory: at once, nothing flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


class Rules(Faults[Rule]):
    """All rules, in the order in which they were made. `die` is what a crash does.

    >>> rules = Rules()
    >>> with rules.error("Produce", "NOT_ENOUGH_REPLICAS", topic="orders", times=3) as rule:
    ...     rules.active, rule.hits
    (True, 0)
    >>> rules.active
    False
    """

    def __init__(self, die: Callable[[], None] = kill_this_process) -> None:
        self.active = False
        self.die = die
        self.by_id: dict[int, Rule] = {}
        self._last = 0

    def add(self, fault: Fault) -> Rule:
        self._last += 1
        rule = self.by_id[self._last] = Rule(self._last, fault, self)
        self.active = True
        return rule

    def remove(self, number: int) -> None:
        self.by_id.pop(number, None)
        self.active = bool(self.by_id)

    def clear(self) -> None:
        self.by_id.clear()
        self.active = False

    def striking(self, request: Request) -> Rule | None:
        """The rule that this request meets; observers have counted it."""
        for rule in tuple(self.by_id.values()):
            if rule.fits(request) and rule.strikes(request) and rule.fault.do != "observe":
                return rule
        return None

    @property
    def read_fetches(self) -> bool:
        """Whether a rule must know what each Fetch reads: then fetch sessions, which do not repeat it, are declined."""
        return any(
            rule.key in (None, FETCH) and (rule.fault.topic is not None or rule.fault.do == "error")
            for rule in self.by_id.values()
        )
