"""Redrives dead letters by rule, for as long as it runs.

It has no state of its own: the dead letter topics and the audit say what is done, so it may be killed at any moment and
started on any machine. Several at once take turns. Memory holds the offsets of the dead letters that a rule takes, so
that each is read when it is appended and again when it is due.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from millstream.errors import KafkaFault
from millstream.kafka.port import Admin, Kafka, TopicPartition
from millstream.operate.dlq.audit import Audit, now
from millstream.operate.dlq.bulk import BATCH, Limits, discards, execute, redrives_of
from millstream.operate.dlq.context import DlqContext, Origins
from millstream.operate.dlq.dead_letter import WAITING, DeadLetter, DeadLetterRef, OrderedKey, in_order, ref_of
from millstream.operate.dlq.executor import Actor, Done
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.later_events import LaterEvents
from millstream.operate.dlq.plans import Refused
from millstream.operate.dlq.reading import read_dead_letters
from millstream.operate.dlq.rendering import plan_line
from millstream.operate.dlq.rules import Rule
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two rounds."""
UNHEALTHY_AFTER = 120.0
"""Seconds without a whole round after which the process is not healthy."""
MAX_WAITING = 250_000
"""Waiting dead letters of one topic that memory holds, in about 100 MB. Those behind them are read when there is room;
of those the order of a key is not kept."""
_WINDOW = timedelta(hours=1)


class RedriveService:
    """A worker that applies rules until it is stopped. Retriable Kafka faults are logged, and the round is repeated.

    - `rules`: the first one that takes a dead letter decides.
    - `by`: the name in the audit.
    - `interval`: seconds between two rounds.
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
        interval: float = INTERVAL,
    ) -> None:
        self._admin, self._origins = admin, origins
        self._audit = Audit(kafka, admin, frozenset(origins.dead_letters))
        self._partitions: dict[str, int] = {}
        self._context = DlqContext(kafka, admin, origins, self._audit, self._partitions)
        self._later_events = LaterEvents(self._context)
        self._runners = [RuleRunner(rule, by) for rule in rules]
        self._interval = interval
        self._heartbeat = (health or Health()).heartbeat("rounds", UNHEALTHY_AFTER)
        self._next: dict[TopicPartition, int] = {}
        self._waiting = dict[str, list[_Waiting]]()
        self._logged: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Do a round every `interval` seconds until `stop` is set. Raises what is not retriable."""
        while not stop.is_set():
            try:
                self._round(stop)
                self._heartbeat.beat()
            except KafkaFault as error:
                if not error.retriable:
                    raise
                log.warning("redrives are held up", code="redrives_held_up", error=str(error), error_code=error.code)
            stop.wait(self._interval)

    def _round(self, stop: threading.Event) -> None:
        self._partitions.clear()
        self._partitions.update({name: found.partitions for name, found in self._admin.topics().items()})
        self._audit.refresh(settled=False)
        for topic in self._origins.select(None, self._partitions):
            self._read_on(topic)
            if not self._waiting[topic]:
                continue
            self._assign(topic)
            for runner in self._runners:
                if not stop.is_set():
                    self._run_rule(runner, stop)
            # Whether done, left for an operator or deleted by retention: what was assigned does not wait any more.
            served = {ref.id for runner in self._runners for ref in runner.assigned}
            self._waiting[topic] = [ref for ref in self._waiting[topic] if ref.id not in served]
            if served:
                self._later_events.retain({ref.ordered_key for waiting in self._waiting.values() for ref in waiting})

    def _read_on(self, topic: str) -> None:
        """Read the dead letters that were appended since the last round, as far as there is room."""
        waiting = self._waiting.setdefault(topic, [])
        partitions = [(topic, number) for number in range(self._partitions[topic])]
        ends = self._admin.end_offsets(partitions)
        if all(self._next.get(partition, 0) >= end for partition, end in ends.items()):
            return
        read = dict(self._next)
        new: list[_Waiting] = []
        for dead_letter, state in read_dead_letters(self._context, [topic], Filter(states=WAITING), start=self._next):
            if len(waiting) + len(new) == MAX_WAITING:
                self._log_full(topic)
                break
            read[dead_letter.id[:2]] = dead_letter.id.offset + 1
            if runners := tuple(runner for runner in self._runners if runner.rule.takes(dead_letter, state)):
                new.append(self._waiting_ref(dead_letter, runners))
        else:
            read |= {partition: max(end, read.get(partition, 0)) for partition, end in ends.items()}
        self._next, self._waiting[topic] = read, in_order([*waiting, *new])
        self._later_events.track(ref for ref in new if not all(runner.rule.allow_reorder for runner in ref.runners))

    def _waiting_ref(self, dead_letter: DeadLetter, runners: "tuple[RuleRunner, ...]") -> "_Waiting":
        ref, topic = ref_of(dead_letter), self._origins.redrive_topics.get(dead_letter.group or "")
        return _Waiting(ref.id, ref.ordered_key, ref.event, ref.parked, dead_letter.last_failed, topic, runners)

    def _assign(self, topic: str) -> None:
        """Assign to each rule what it may redrive now, and forget what no rule takes any more."""
        moment = now()
        for runner in self._runners:
            runner.begin_round(self._audit, moment)
        waiting: list[_Waiting] = []
        runner_of: dict[OrderedKey | None, RuleRunner | None] = {}
        for ref in self._waiting[topic]:
            age = ref.age(moment)
            runner = next((runner for runner in ref.runners if runner.rule.young(age)), None)
            if runner is None or self._audit[ref.id] is not None:
                continue
            waiting.append(ref)
            # Later events of its key must not be redriven before one that waits, or that another rule redrives.
            free = ref.ordered_key is None or runner_of.get(ref.ordered_key, runner) is runner
            ready = free and runner.rule.due(age) and self._exists(ref.redrive_topic)
            runner_of[ref.ordered_key] = runner if ready and runner.assign(ref) else None
        self._waiting[topic] = waiting

    def _exists(self, redrive_topic: str | None) -> bool:
        if redrive_topic is None or redrive_topic in self._partitions:
            return True
        if redrive_topic not in self._logged:
            self._logged.add(redrive_topic)
            log.warning(
                "dead letters wait for a redrive topic, which their service creates when it starts",
                code="redrive_topic_missing",
                topic=redrive_topic,
            )
        return False

    def _log_full(self, topic: str) -> None:
        if topic not in self._logged:
            self._logged.add(topic)
            log.warning(
                "too many dead letters wait, and those behind are read later",
                code="too_many_dead_letters_wait",
                topic=topic,
                limit=MAX_WAITING,
            )

    def _run_rule(self, runner: "RuleRunner", stop: threading.Event) -> None:
        rule = runner.rule
        limits = Limits(BATCH, rule.max_redrives, rule.allow_reorder)
        plans = redrives_of(self._context, runner.assigned, limits, self._later_events)
        given_up: list[DeadLetter] = []
        for result in execute(self._context, plans, runner.actor, stop=stop):
            if isinstance(result, Refused) and result.code == "too_often" and rule.give_up == "discard":
                given_up.append(result.dead_letter)
            else:
                runner.record(result)
        for result in execute(self._context, discards(self._context, given_up, BATCH), runner.actor, stop=stop):
            runner.record(result)


@dataclass(frozen=True, slots=True)
class _Waiting(DeadLetterRef):
    """A dead letter that waits.

    - `redrive_topic`: of its group, where the system has that group.
    - `runners`: of the rules that take it; the first one whose rule finds it young enough has it.
    """

    failed: datetime | None = None
    redrive_topic: str | None = None
    runners: "tuple[RuleRunner, ...]" = ()

    def age(self, moment: datetime) -> timedelta:
        """Return the time since it failed; zero where it does not say when that was."""
        return timedelta(0) if self.failed is None else max(timedelta(0), moment - self.failed)


class RuleRunner:
    """One rule in a round: the dead letters assigned to it, and how many more its rate and its limit allow."""

    def __init__(self, rule: Rule, by: str) -> None:
        self.rule = rule
        self.actor = Actor(by, f"millstream dlq serve: {rule.name}", comment=f"rule {rule.name}")
        self.assigned: list[DeadLetterRef] = []
        self._allowance, self._since = 1.0, time.monotonic()
        self._room = 0

    def begin_round(self, audit: Audit, moment: datetime) -> None:
        """Clear what is assigned, and count what the rule's rate and its hourly limit allow now."""
        self.assigned.clear()
        clock = time.monotonic()
        self._allowance = min(max(1.0, self.rule.rate), self._allowance + (clock - self._since) * self.rule.rate)
        self._since = clock
        lately = sum(entry.command == self.actor.command and moment - entry.at < _WINDOW for entry in audit.entries())
        self._room = min(BATCH, int(self._allowance), self.rule.limit - lately)

    def assign(self, ref: DeadLetterRef) -> bool:
        """Assign a dead letter to the rule; false when it may redrive no more in this round."""
        if len(self.assigned) >= self._room:
            return False
        self.assigned.append(ref)
        return True

    def record(self, result: Done | Refused) -> None:
        """Count and log an action, or a refusal that leaves the dead letter for an operator."""
        if isinstance(result, Done):
            self._allowance -= result.mine
            dead_letter, action = str(result.plan.dead_letter.id), result.entry.action
            log.info(
                "dead letter handled by rule",
                code="dead_letter_handled_by_rule",
                rule=self.rule.name,
                dead_letter=dead_letter,
                action=action,
            )
        elif result.code != "done":
            found = result.dead_letter
            metrics.REDRIVES_REFUSED.labels(self.rule.name, found.service, found.at[0], result.code).inc()
            log.warning(
                "dead letter left for an operator",
                code="dead_letter_left",
                rule=self.rule.name,
                dead_letter=plan_line(result),
            )
