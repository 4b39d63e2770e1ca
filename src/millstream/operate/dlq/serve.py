"""Hands dead letters in again by rule, for as long as it runs.

It keeps nothing of its own: the dead letter topics and the audit say what is done, so it may be killed at any moment
and started anywhere. Several at once only take turns. Memory holds where the letters lie that a rule takes, so that
each is read when it comes and when its turn has come.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from millstream.errors import KafkaFault
from millstream.kafka.port import Admin, Kafka, TopicPartition
from millstream.operate.dlq.audit import Audit, now
from millstream.operate.dlq.bulk import AT_ONCE, Limits, carry_out, discards, redrives_of
from millstream.operate.dlq.clerk import Done, Person
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.lanes import Lane, Spot, in_order, lane_of
from millstream.operate.dlq.letter import WAITING, DeadLetter
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.overtaken import Followers
from millstream.operate.dlq.reading import letters
from millstream.operate.dlq.rules import Rule
from millstream.operate.dlq.system import Origins
from millstream.operate.dlq.telling import sentence
from millstream.operate.dlq.work import Refused
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks at the dead letters."""
SILENT = 120.0
"""Seconds without a whole round after which the process is not healthy."""
KEPT = 250_000
"""So many waiting letters of one topic are kept in mind, in about 100 MB. Others are left where they are until there is
room; of those the order of a key is not kept."""
_WINDOW = timedelta(hours=1)


class RedriveService:
    """A worker: `run(stop)` goes on until it is told to stop. Passing troubles are logged and waited out.

    - `rules`: the first one that takes a letter decides.
    - `by`: the name in the audit.
    """

    name = "dlq-redrive"

    def __init__(
        self,
        kafka: Kafka,
        admin: Admin,
        origins: Origins,
        rules: list[Rule],
        *,
        by: str,
        health: Health | None = None,
        every: float = EVERY,
    ) -> None:
        self._admin, self._origins = admin, origins
        self._audit = Audit(kafka, admin, frozenset(origins.dead_letters))
        self._there: dict[str, int] = {}
        self._office = Office(kafka, admin, origins, self._audit, self._there)
        self._followers = Followers(self._office)
        self._desks = [_Desk(rule, by) for rule in rules]
        self._every = every
        self._beat = (health or Health()).heartbeat("rounds", SILENT)
        self._next: dict[TopicPartition, int] = {}
        self._waiting = dict[str, list[_Waiting]]()
        self._redrives = {
            service.group(kind): service.redrives(kind)
            for service in origins.services.values()
            for kind in service.kinds()
        }
        self._told: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Looks, and looks again. Raises what will not pass."""
        while not stop.is_set():
            try:
                self._round(stop)
                self._beat.beat()
            except KafkaFault as error:
                if not error.retriable:
                    raise
                log.warning("redriving is held up", error=str(error))
            stop.wait(self._every)

    def _round(self, stop: threading.Event) -> None:
        there = {name: found.partitions for name, found in self._admin.topics().items()}
        self._there.clear()
        self._there.update(there)
        self._audit.refresh(settled=False)
        for topic in self._origins.chosen(None, there):
            self._read_on(topic)
            if not self._waiting[topic]:
                continue
            self._sort(topic)
            for desk in self._desks:
                if not stop.is_set():
                    self._serve(desk, stop)
            # Be it done, left for a person, or taken by retention meanwhile: nothing that lay on a desk waits any more.
            served = {letter.id for desk in self._desks for letter in desk.letters}
            self._waiting[topic] = [letter for letter in self._waiting[topic] if letter.id not in served]
            if served:
                self._followers.keep({letter.lane for waiting in self._waiting.values() for letter in waiting})

    def _read_on(self, topic: str) -> None:
        """Takes in what came since the last time, as far as there is room."""
        waiting = self._waiting.setdefault(topic, [])
        places = [(topic, partition) for partition in range(self._there[topic])]
        ends = self._admin.end_offsets(places)
        if all(self._next.get(place, 0) >= end for place, end in ends.items()):
            return
        read = dict(self._next)
        came: list[_Waiting] = []
        for letter, state in letters(self._office, [topic], Filter(states=WAITING), start=self._next):
            if len(waiting) + len(came) == KEPT:
                self._tell_once(topic, f"more than {KEPT} dead letters wait, and those behind are left for later")
                break
            read[letter.id[:2]] = letter.id.offset + 1
            if desks := tuple(desk for desk in self._desks if desk.rule.takes(letter, state)):
                to = self._redrives.get(letter.group or "")
                lane, failed = lane_of(letter), letter.last_failed
                came.append(_Waiting(letter.id, lane, letter.at[2], letter.parked, failed, to, desks))
        else:
            read |= {place: max(end, read.get(place, 0)) for place, end in ends.items()}
        self._next, self._waiting[topic] = read, in_order([*waiting, *came])
        self._followers.mind(letter for letter in came if not all(desk.rule.allow_reorder for desk in letter.desks))

    def _sort(self, topic: str) -> None:
        """Puts on each rule's desk what it may deal with now, and forgets what is no rule's any more."""
        moment = now()
        for desk in self._desks:
            desk.open(self._audit, moment)
        waiting: list[_Waiting] = []
        lanes: dict[Lane | None, _Desk | None] = {}
        for letter in self._waiting[topic]:
            age = letter.age(moment)
            desk = next((desk for desk in letter.desks if desk.rule.young(age)), None)
            if desk is None or self._audit[letter.id] is not None:
                continue
            waiting.append(letter)
            # Events of its key that come later must not overtake one that waits or lies on another desk.
            free = letter.lane is None or lanes.get(letter.lane, desk) is desk
            ready = free and desk.rule.due(age) and self._is_there(letter.to)
            lanes[letter.lane] = desk if ready and desk.take(letter) else None
        self._waiting[topic] = waiting

    def _is_there(self, redrives: str | None) -> bool:
        if redrives is None or redrives in self._there:
            return True
        self._tell_once(redrives, "dead letters wait for a redrive topic, which their service makes when it starts")
        return False

    def _tell_once(self, topic: str, what: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            log.warning(what, topic=topic)

    def _serve(self, desk: "_Desk", stop: threading.Event) -> None:
        rule = desk.rule
        limits = Limits(AT_ONCE, rule.max_redrives, rule.allow_reorder)
        plans = redrives_of(self._office, desk.letters, limits, self._followers)
        spent: list[DeadLetter] = []
        for result in carry_out(self._office, plans, desk.person, stop=stop):
            if isinstance(result, Refused) and result.code == "too_often" and rule.give_up == "discard":
                spent.append(result.letter)
            else:
                desk.dealt_with(result)
        for result in carry_out(self._office, discards(self._office, spent, AT_ONCE), desk.person, stop=stop):
            desk.dealt_with(result)


@dataclass(frozen=True, slots=True)
class _Waiting(Spot):
    """A letter that waits.

    - `to`: the redrive topic of its group, where the system has that group.
    - `desks`: of the rules that take it; the first one whose rule finds it young enough has it.
    """

    failed: datetime | None = None
    to: str | None = None
    desks: "tuple[_Desk, ...]" = ()

    def age(self, moment: datetime) -> timedelta:
        """Return the time since it failed; zero where it does not say when that was."""
        return timedelta(0) if self.failed is None else max(timedelta(0), moment - self.failed)


class _Desk:
    """One rule at work: what lies on it now, and how much it may still do."""

    def __init__(self, rule: Rule, by: str) -> None:
        self.rule = rule
        self.person = Person(by, f"millstream dlq serve: {rule.name}", comment=f"rule {rule.name}")
        self.letters: list[Spot] = []
        self._allowance, self._since = 1.0, time.monotonic()
        self._room = 0

    def open(self, audit: Audit, moment: datetime) -> None:
        """Clears the desk, and counts what the rule's rate and its hourly cap leave for now."""
        self.letters.clear()
        clock = time.monotonic()
        self._allowance = min(max(1.0, self.rule.rate), self._allowance + (clock - self._since) * self.rule.rate)
        self._since = clock
        lately = sum(entry.command == self.person.command and moment - entry.at < _WINDOW for entry in audit.entries())
        self._room = min(AT_ONCE, int(self._allowance), self.rule.limit - lately)

    def take(self, letter: Spot) -> bool:
        """Puts a letter on the desk; false when there is no room."""
        if len(self.letters) >= self._room:
            return False
        self.letters.append(letter)
        return True

    def dealt_with(self, result: Done | Refused) -> None:
        """Counts an action, or what is left for a person."""
        if isinstance(result, Done):
            self._allowance -= result.mine
            action, letter = result.entry.action, str(result.work.letter.id)
            log.info("dead letter dealt with", rule=self.rule.name, letter=letter, action=action)
        elif result.code != "done":
            letter = result.letter
            metrics.REDRIVES_REFUSED.labels(self.rule.name, letter.service, letter.at[0], result.code).inc()
            log.warning("dead letter left for a person", rule=self.rule.name, letter=sentence(result))
