"""Carries plans out, each exactly once, however many operators and services run at once and whenever one is killed.

The record that redrives an event and the audit entry of it are written in one transaction. Its transactional id belongs
to the dead letter topic: an executor that begins fences all others, waits until their transactions have ended, and
reads the audit to its end before it writes. One that was fenced begins again, and finds as done what the others did.
Whether later events have superseded a dead letter is looked up then, too: days may lie between a plan and its action.
"""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from millstream.contracts import edge_id
from millstream.errors import CommitUnknown, Fenced, KafkaFault, TransactionAborted
from millstream.kafka.port import Admin, Kafka, TransactionalProducer
from millstream.operate.dlq.audit import AUDIT, SPEC, Audit, Entry, now
from millstream.operate.dlq.dead_letter import DeadLetterId
from millstream.operate.dlq.later_events import Superseding
from millstream.operate.dlq.plans import Plan, Refused, superseded
from millstream.telemetry import metrics

TRIES = 8
"""Tries of a transaction before the command gives up."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of an action, for the audit: a name, a command, and a comment."""

    name: str
    command: str
    comment: str | None = None


class Done(NamedTuple):
    """An action that is committed. `mine`: by this executor; false where another one was first."""

    plan: Plan
    entry: Entry
    mine: bool


class RedriveExecutor:
    """Carries out plans for the dead letters of one topic. A context manager.

    - `audit`: an audit of this topic; it is refreshed before anything is written.
    """

    def __init__(self, kafka: Kafka, admin: Admin, topic: str, audit: Audit, actor: Actor) -> None:
        admin.ensure_topics([SPEC])
        self._kafka, self._audit, self._actor = kafka, audit, actor
        self._transactional_id = f"millstream.dlq.{topic}"
        self._run = edge_id()
        self._producer: TransactionalProducer | None = None

    def __enter__(self) -> "RedriveExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_producer()

    def execute(self, plans: Sequence[Plan]) -> list[Done | Refused]:
        """Carry out the plans in this order and in one transaction, except those that are done already and those that
        later events have superseded meanwhile. Blocks until it is committed.

        Raises `Fenced` or another `KafkaFault` when it fails `TRIES` times; then nothing is written.
        """
        failures = 0
        while True:
            try:
                if self._producer is None:
                    self._producer = self._kafka.transactional_producer(self._transactional_id)
                    self._producer.init()
                self._audit.refresh()
                left = [plan for plan in plans if self._audit[plan.dead_letter.id] is None]
                late = _superseding(left)
                if len(late) == len(left):
                    return [
                        self._done(plan) or superseded(plan.dead_letter, late[plan.dead_letter.id]) for plan in plans
                    ]
                self._commit(self._producer, [plan for plan in left if plan.dead_letter.id not in late])
            except (Fenced, TransactionAborted, CommitUnknown) as error:
                self._close_producer()
                failures += 1
                if failures == TRIES:
                    raise _out_of_tries(error) from error
                # Two that fence each other all the time would both stand still.
                threading.Event().wait(random.uniform(0.05, 0.2) * failures)  # noqa: S311

    def _commit(self, producer: TransactionalProducer, plans: Sequence[Plan]) -> None:
        producer.begin()
        try:
            for plan in plans:
                dead_letter = plan.dead_letter
                if plan.redrive_to is not None:
                    topic, partition = plan.redrive_to
                    producer.produce(topic, plan.value, dead_letter.key, plan.headers, partition=partition)
                entry = msgspec.json.encode(self._entry(plan))
                producer.produce(AUDIT, entry, str(dead_letter.id).encode(), partition=0)
        except BaseException:
            producer.abort()
            raise
        producer.commit()

    def _entry(self, plan: Plan) -> Entry:
        dead_letter = plan.dead_letter
        return Entry(
            dead_letter=str(dead_letter.id),
            action=plan.action,
            by=self._actor.name,
            at=now(),
            command=self._actor.command,
            comment=self._actor.comment,
            run=self._run,
            service=dead_letter.service,
            group=dead_letter.group,
            reason=dead_letter.reason,
            origin=dead_letter.at,
            redrive_to=plan.redrive_to,
            changed=plan.changed,
            redrives=plan.redrives,
            topic_id=self._audit.ids.get(dead_letter.id.topic, ""),
        )

    def _done(self, plan: Plan) -> Done | None:
        entry = self._audit[plan.dead_letter.id]
        if entry is None:
            return None
        mine = entry.run == self._run
        if mine:
            metrics.REDRIVES.labels(plan.dead_letter.service, plan.dead_letter.at[0], entry.action).inc()
        return Done(plan, entry, mine)

    def _close_producer(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close()


def _superseding(plans: Sequence[Plan]) -> dict[DeadLetterId, Superseding]:
    found: dict[DeadLetterId, Superseding] = {}
    for later_events in {plan.later_events for plan in plans if plan.later_events is not None}:
        found |= later_events.superseding([plan.dead_letter for plan in plans if plan.later_events is later_events])
    return found


def _out_of_tries(error: KafkaFault) -> KafkaFault:
    return type(error)(f"{error} Tried {TRIES} times; run the command again: nothing is done twice.")
