"""What a test asks to go wrong. Light: tests import it without the broker."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack, cast

Do = Literal["delay", "drop", "error", "close", "crash", "lose_response", "observe"]
When = Literal["before", "after"]
ACTIONS: tuple[Do, ...] = ("delay", "drop", "error", "close", "crash", "lose_response", "observe")

RuleT = TypeVar("RuleT")


class BadFault(ValueError):
    """A fault that cannot be; `place` is the field, the message says what it may be."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place


class Match(TypedDict, total=False):
    """Which requests a fault is for: those that fit all that is given. `skip` of them pass first, `times` of them are
    struck; without `times`, all until the rule is removed."""

    topic: str
    client_id: str
    group: str
    transactional_id: str
    skip: int
    times: int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What to do to which requests. `api` is a name of Kafka's protocol, such as "Produce"; None is every one.

    - `error`: the name of one of Kafka's error codes, for "error".
    - `seconds`: how long, for "delay".
    - `when`: before or after the request is carried out, for "delay" and "crash".
    - `keep_open`: leave the connection open and silent, for "lose_response".

    Raises BadFault.

    >>> Fault(do="delay", api="Fetch", seconds=2).seconds
    2
    >>> Fault(do="error", api="Produce")
    Traceback (most recent call last):
    millstream.local.faults.fault.BadFault: error: needed for "error"; such as "NOT_ENOUGH_REPLICAS"
    """

    do: Do
    api: str | None = None
    error: str | None = None
    seconds: float = 0.0
    when: When = "before"
    keep_open: bool = False
    topic: str | None = None
    client_id: str | None = None
    group: str | None = None
    transactional_id: str | None = None
    skip: int = 0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.do not in ACTIONS:
            raise BadFault("do", f"{self.do!r} is none of {', '.join(ACTIONS)}")
        for name in ("api", "error", "topic", "client_id", "group", "transactional_id"):
            if not isinstance(getattr(self, name), str | None):
                raise BadFault(name, "must be a string")
        if self.do == "error" and not self.error:
            raise BadFault("error", 'needed for "error"; such as "NOT_ENOUGH_REPLICAS"')
        if self.when not in ("before", "after"):
            raise BadFault("when", f'{self.when!r} is neither "before" nor "after"')
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or not 0 <= self.seconds < 1e6:
            raise BadFault("seconds", "must be a number from 0 to a million")
        if not isinstance(self.keep_open, bool):
            raise BadFault("keep_open", "must be true or false")
        for name, lowest in (("skip", 0), ("times", 1)):
            number = getattr(self, name)
            if number is None and name == "times":
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < lowest:
                raise BadFault(name, f"must be a whole number from {lowest} upwards")

    @classmethod
    def from_json(cls, value: Any) -> "Fault":
        """From what `to_json` made. Raises BadFault."""
        if not isinstance(value, dict):
            raise BadFault("fault", "must be an object")
        given = cast(dict[str, Any], value)
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise BadFault(unknown[0], f"unknown; a fault has {', '.join(sorted(known))}")
        if "do" not in given:
            raise BadFault("do", f"missing; one of {', '.join(ACTIONS)}")
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """What is given, without defaults."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in told.items() if value not in (None, 0, False)}


class Faults(ABC, Generic[RuleT]):
    """The verbs: each makes a rule and returns it. A rule ends when it is removed, or left as a context manager.

    The first rule that fits a request strikes it; observers see it in any case.
    """

    @abstractmethod
    def add(self, fault: Fault) -> RuleT:
        """Put the fault to work. Raises BadFault for an API or error that Kafka does not have."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every rule."""

    def error(self, api: str, error: str, **match: Unpack[Match]) -> RuleT:
        """Answer with `error` and carry nothing out: for `topic` alone where one is given, the rest goes its way.

        The error stands where Kafka puts it: at each partition, topic or group named, or at the top.
        """
        return self.add(Fault(do="error", api=api, error=error, **match))

    def delay(self, api: str | None = None, *, seconds: float, when: When = "before", **match: Unpack[Match]) -> RuleT:
        """Wait before carrying it out, or "after" before answering; `seconds` of the broker's clock."""
        return self.add(Fault(do="delay", api=api, seconds=seconds, when=when, **match))

    def drop(self, api: str | None = None, **match: Unpack[Match]) -> RuleT:
        """Swallow it: not carried out, never answered, and its connection is silent from then on."""
        return self.add(Fault(do="drop", api=api, **match))

    def close(self, api: str | None = None, **match: Unpack[Match]) -> RuleT:
        """Close the connection instead of carrying it out."""
        return self.add(Fault(do="close", api=api, **match))

    def lose_response(self, api: str | None = None, *, keep_open: bool = False, **match: Unpack[Match]) -> RuleT:
        """Carry it out and do not answer: the connection is closed, or stays open and silent."""
        return self.add(Fault(do="lose_response", api=api, keep_open=keep_open, **match))

    def crash(self, api: str | None, when: When, **match: Unpack[Match]) -> RuleT:
        """Kill the broker with SIGKILL, before it is carried out, or "after" and before it is answered."""
        return self.add(Fault(do="crash", api=api, when=when, **match))

    def observe(self, api: str | None = None, **match: Unpack[Match]) -> RuleT:
        """Only count."""
        return self.add(Fault(do="observe", api=api, **match))
