"""Hands dead letters in again by rule, for as long as it runs.

It keeps nothing of its own: the dead letter topics and the audit say what is done, so it may be killed at any moment
and started anywhere. Several at once only take turns.
"""

import threading
import time
from datetime import datetime, timedelta

from millstream.errors import KafkaFault
from millstream.kafka.port import Admin, Kafka, TopicPartition
from millstream.operate.dlq.audit import Audit, now
from millstream.operate.dlq.bulk import AT_ONCE, Limits, carry_out, discards, redrives
from millstream.operate.dlq.clerk import Done, Person
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.reading import letters
from millstream.operate.dlq.rules import Rule
from millstream.operate.dlq.system import Origins
from millstream.operate.dlq.telling import sentence
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks at the dead letters."""
SILENT = 120.0
"""Seconds without a whole round after which the process is not healthy."""
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
        self._kafka, self._admin, self._origins = kafka, admin, origins
        self._audit = Audit(kafka, admin, frozenset(origins.dead_letters))
        self._desks = [_Desk(rule, by) for rule in rules]
        self._every = every
        self._beat = (health or Health()).heartbeat("rounds", SILENT)
        self._next: dict[TopicPartition, int] = {}
        self._left: set[LetterId] = set()

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
        self._audit.refresh(settled=False)
        office = Office(self._kafka, self._admin, self._origins, self._audit, there)
        for topic in self._origins.chosen(None, there):
            places = [(topic, partition) for partition in range(there[topic])]
            ends = self._admin.end_offsets(places)
            if all(self._next.get(place, 0) >= end for place, end in ends.items()):
                continue
            waiting = self._sort(office, topic)
            for desk in self._desks:
                if not stop.is_set():
                    self._serve(office, desk, stop)
            # What came after the ends were asked for is looked at next time.
            self._next |= {place: min(waiting.get(place, end), end) for place, end in ends.items()}
            self._left = {id for id in self._left if id.offset >= self._next.get((id.topic, id.partition), 0)}

    def _sort(self, office: Office, topic: str) -> dict[TopicPartition, int]:
        """Puts on each rule's desk what it may deal with now; answers where the first letter lies that has to wait."""
        moment = now()
        waiting: dict[TopicPartition, int] = {}
        waiting_keys: set[tuple[str | None, str, int, bytes]] = set()
        for desk in self._desks:
            desk.open(self._audit, moment)
        for letter, state in letters(office, [topic], Filter(), start=self._next):
            desk = next((desk for desk in self._desks if desk.rule.takes(letter, state, moment)), None)
            if desk is None or letter.id in self._left:
                continue
            place = letter.id[:2]
            waiting[place] = min(letter.id.offset, waiting.get(place, letter.id.offset))
            lane = None if letter.key is None else (letter.group, *letter.origin, letter.key)
            if lane in waiting_keys or not desk.rule.due(letter, moment) or not desk.take(letter):
                # Events of its key that come later must not overtake it.
                waiting_keys |= set() if lane is None else {lane}
        return waiting

    def _serve(self, office: Office, desk: "_Desk", stop: threading.Event) -> None:
        rule = desk.rule
        plans = redrives(office, desk.letters, Limits(AT_ONCE, rule.most_redrives, rule.overtaken))
        spent: list[DeadLetter] = []
        for result in carry_out(office, plans, desk.person, stop=stop):
            if isinstance(result, Done):
                desk.did(result)
            elif result.code == "too_often" and rule.give_up == "discard":
                spent.append(result.letter)
            elif result.code != "done":
                self._left.add(result.letter.id)
                letter = result.letter
                metrics.REDRIVES_REFUSED.labels(rule.name, letter.service, letter.at[0], result.code).inc()
                log.warning("dead letter left for a person", rule=rule.name, letter=sentence(result))
        for result in carry_out(office, discards(office, spent, AT_ONCE), desk.person, stop=stop):
            if isinstance(result, Done):
                desk.did(result)


class _Desk:
    """One rule at work: what lies on it now, and how much it may still do."""

    def __init__(self, rule: Rule, by: str) -> None:
        self.rule = rule
        self.person = Person(by, f"millstream dlq serve: {rule.name}", why=f"rule {rule.name}")
        self.letters: list[DeadLetter] = []
        self._allowance, self._since = 1.0, time.monotonic()
        self._room = 0

    def open(self, audit: Audit, moment: datetime) -> None:
        """Clears the desk, and counts what the rule's rate and its hourly cap leave for now."""
        self.letters.clear()
        clock = time.monotonic()
        self._allowance = min(max(1.0, self.rule.rate), self._allowance + (clock - self._since) * self.rule.rate)
        self._since = clock
        lately = sum(entry.command == self.person.command and moment - entry.at < _WINDOW for entry in audit.entries())
        self._room = min(AT_ONCE, int(self._allowance), self.rule.most - lately)

    def take(self, letter: DeadLetter) -> bool:
        """Puts a letter on the desk; false when there is no room."""
        if len(self.letters) >= self._room:
            return False
        self.letters.append(letter)
        return True

    def did(self, done: Done) -> None:
        """Counts a deed."""
        self._allowance -= done.mine
        log.info("dead letter dealt with", rule=self.rule.name, letter=str(done.work.letter.id), deed=done.entry.deed)
