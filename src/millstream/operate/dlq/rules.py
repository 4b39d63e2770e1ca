"""Rules that redrive dead letters, from a TOML file. The whole file is checked before anything runs."""

import re
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from millstream.declare import full_name
from millstream.errors import ConfigurationError, did_you_mean
from millstream.operate.dlq.context import Origins
from millstream.operate.dlq.dead_letter import WAITING, DeadLetter, State
from millstream.operate.dlq.filters import Filter, duration, rate
from millstream.operate.dlq.plans import MAX_REDRIVES

GiveUp: TypeAlias = Literal["leave", "discard"]
_MATCHES = ("topic", "service", "reason", "error", "type")
_KNOWN = ("name", *_MATCHES, "younger-than", "wait", "rate", "limit", "max-redrives", "allow-reorder", "give-up")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: which dead letters are redriven, and how.

    - `topic`: that the event was first read from; `filter`: what else must hold.
    - `younger_than`: only dead letters that failed within this time; `wait`: after the last failure.
    - `rate`: actions a second; `limit`: actions within an hour, restarts of the service included.
    - `max_redrives`: a dead letter that was redriven as often is given up: left for an operator, or discarded.
    """

    name: str
    filter: Filter
    topic: str | None = None
    younger_than: timedelta | None = None
    wait: timedelta = timedelta(0)
    rate: float = 10.0
    limit: int = 1_000
    max_redrives: int = MAX_REDRIVES
    allow_reorder: bool = False
    give_up: GiveUp = "leave"

    def takes(self, dead_letter: DeadLetter, state: State) -> bool:
        """Return whether the dead letter is this rule's, as long as it is young enough."""
        return self.filter.takes(dead_letter, state) and (self.topic is None or dead_letter.at[0] == self.topic)

    def young(self, age: timedelta) -> bool:
        """Return whether a dead letter whose last failure is so long ago is young enough."""
        return self.younger_than is None or age <= self.younger_than

    def due(self, age: timedelta) -> bool:
        """Return whether it has waited long enough."""
        return age >= self.wait


@dataclass(slots=True)
class _Reader:
    """Reads one file and collects its mistakes, each with its line."""

    path: Path
    lines: list[str]
    origins: Origins
    mistakes: list[str] = field(default_factory=list[str])
    _number: int = 0
    _table: dict[str, Any] = field(default_factory=dict[str, Any])

    def rule(self, number: int, table: dict[str, Any]) -> Rule:
        self._number, self._table = number, table
        for key in table.keys() - set(_KNOWN):
            self.add(key, f"a rule has no {key!r}{did_you_mean(key, _KNOWN)}; it has {', '.join(_KNOWN)}")
        name = self.get("name", str, "")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
            self.add("name", 'every rule needs a unique name in lower case, such as name = "gateway-down"')
        matches = {key: self.get(key, str, None) for key in _MATCHES}
        if not any(matches.values()):
            self.add(
                None,
                f'rule {name!r} would take every dead letter: give one of {", ".join(_MATCHES)} (reason = "*" is all)',
            )
        self._known(matches)
        younger, wait = self._duration("younger-than"), self._duration("wait") or timedelta(0)
        if younger is not None and younger <= wait:
            self.add(
                "younger-than",
                f"rule {name!r} can take nothing: dead letters are older than that when they have waited",
            )
        give_up = self.get("give-up", str, "leave")
        if give_up not in ("leave", "discard"):
            self.add("give-up", f'give-up = {give_up!r}: it is "leave" (for an operator) or "discard"')
        return Rule(
            name=name,
            filter=Filter(
                error=matches["error"],
                reason=matches["reason"],
                type=matches["type"],
                service=matches["service"],
                states=WAITING,
            ),
            topic=matches["topic"],
            younger_than=younger,
            wait=wait,
            rate=self._rate(),
            limit=self._count("limit", 1_000),
            max_redrives=self._count("max-redrives", MAX_REDRIVES),
            allow_reorder=self.get("allow-reorder", bool, False),
            give_up=cast(GiveUp, give_up),
        )

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self._table.get(key, default)
        if key in self._table and type(value) is not kind:
            kinds = {str: "text in quotes", int: "a whole number", bool: "true or false"}
            self.add(key, f"{key} = {value!r}: it must be {kinds[kind]}")
            return default
        return value

    def add(self, key: str | None, what: str) -> None:
        self.mistakes.append(f"{self.path}:{self._line(key)}: {what}")

    def _known(self, matches: dict[str, str | None]) -> None:
        service, topic, type = matches["service"], matches["topic"], matches["type"]
        origins = self.origins
        try:
            origins.check_service(service)
        except ConfigurationError as error:
            self.add("service", str(error))
        if topic is not None and f"{topic}.dlq" not in origins.dead_letters:
            meant, consumed = did_you_mean(topic, origins.consumed), ", ".join(origins.consumed)
            self.add("topic", f"{origins.system} consumes no topic {topic!r}{meant}; it consumes {consumed}")
        if type is not None and not any(mark in type for mark in "*?["):
            classes = [of for found in origins.topics.values() for of in found.contracts]
            if not any(type in (of.__name__, full_name(of)) for of in classes):
                meant = did_you_mean(type, [of.__name__ for of in classes])
                self.add("type", f"no topic of {origins.system} carries a class {type!r}{meant}")

    def _duration(self, key: str) -> timedelta | None:
        text = self.get(key, str, None)
        try:
            return None if text is None else duration(text)
        except ConfigurationError as error:
            self.add(key, f"{key}: {error}")
            return None

    def _rate(self) -> float:
        try:
            return rate(self.get("rate", str, "10/s"))
        except ConfigurationError as error:
            self.add("rate", f"rate: {error}")
            return 1.0

    def _count(self, key: str, default: int) -> int:
        count = self.get(key, int, default)
        if count < 1:
            self.add(key, f"{key} = {count}: it is 1 at least, or the rule can do nothing")
        return count

    def _line(self, key: str | None) -> int:
        """Return the line of a key of the present rule, which tomllib does not report."""
        heads = [at for at, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
        if self._number >= len(heads):
            # Rules may also stand in an array: rule = [{…}, {…}].
            arrays = [at for at, line in enumerate(self.lines) if re.match(r"\s*[\"']?rule[\"']?\s*=", line)]
            return arrays[0] + 1 if arrays else 1
        begin = heads[self._number]
        end = heads[self._number + 1] if self._number + 1 < len(heads) else len(self.lines)
        for at in range(begin, end):
            if key is not None and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", self.lines[at]):
                return at + 1
        return begin + 1


def read_rules(path: Path, origins: Origins) -> list[Rule]:
    """Read the rules of a file, in order: the first that takes a dead letter decides.

    Raises `ConfigurationError`, which names the line of each mistake, and the remedy.
    """
    try:
        text = path.read_text()
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    rules = tables.pop("rule", [])
    if tables or not isinstance(rules, list) or not rules:
        also = f", not {', '.join(tables)}" if tables else ""
        raise ConfigurationError(f"{path}: it consists of [[rule]] tables{also}; there must be one at least")
    reader = _Reader(path, text.splitlines(), origins)
    found: list[Rule] = []
    for number, table in enumerate(cast("list[Any]", rules)):
        if not isinstance(table, dict):
            reader.add("rule", f"rule = {table!r}: a rule is a table with [[rule]] above it")
            continue
        rule = reader.rule(number, cast("dict[str, Any]", table))
        if any(rule.name == other.name for other in found):
            reader.add("name", f"there is a rule {rule.name!r} above; the audit tells rules apart by their names")
        found.append(rule)
    if reader.mistakes:
        raise ConfigurationError("\n".join(reader.mistakes))
    return found
