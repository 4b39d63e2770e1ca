"""Carries actions out, each exactly once, however many people and services are at it and whenever they are killed.

The record that hands an event in and the entry that says so are written in one transaction. Its transactional id
belongs to the dead letter topic: whoever begins fences all others, waits until their transactions are settled, and
reads the audit to its end before it writes. One that was fenced begins again, and finds done what others did.
What has been overtaken is looked at then, too: days may lie between a plan and its action.
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
from millstream.operate.dlq.letter import LetterId
from millstream.operate.dlq.overtaken import Overtakers
from millstream.operate.dlq.work import Refused, Work, overtaken
from millstream.telemetry import metrics

TRIES = 8
"""Tries of a transaction before the command gives up."""


@dataclass(frozen=True, slots=True)
class Person:
    """An actor of the audit: a name, a command, and a comment."""

    name: str
    command: str
    comment: str | None = None


class Done(NamedTuple):
    """An action that is committed. `mine`: by this clerk, and not by somebody who was quicker."""

    work: Work
    entry: Entry
    mine: bool


class Clerk:
    """Deals with the letters of one dead letter topic. A context manager.

    - `audit`: knows the topic; it is refreshed before anything is written.
    """

    def __init__(self, kafka: Kafka, admin: Admin, topic: str, audit: Audit, person: Person) -> None:
        admin.ensure_topics([SPEC])
        self._kafka, self._audit, self._person = kafka, audit, person
        self._transactional_id = f"millstream.dlq.{topic}"
        self._run = edge_id()
        self._producer: TransactionalProducer | None = None

    def __enter__(self) -> "Clerk":
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def do(self, works: Sequence[Work]) -> list[Done | Refused]:
        """Does all of them together, in this order, but those that are done already, and those that later events have
        overtaken by now. Blocks until that is committed.

        Raises `Fenced` or another `KafkaFault` when it cannot be done after several tries; nothing is done by halves.
        """
        failures = 0
        while True:
            try:
                if self._producer is None:
                    self._producer = self._kafka.transactional_producer(self._transactional_id)
                    self._producer.init()
                self._audit.refresh()
                left = [work for work in works if self._audit[work.letter.id] is None]
                late = _overtaking(left)
                if len(late) == len(left):
                    return [self._done(work) or overtaken(work.letter, late[work.letter.id]) for work in works]
                self._commit(self._producer, [work for work in left if work.letter.id not in late])
            except (Fenced, TransactionAborted, CommitUnknown) as error:
                self._let_go()
                failures += 1
                if failures == TRIES:
                    raise _giving_up(error) from error
                # Two that fence each other all the time would both stand still.
                threading.Event().wait(random.uniform(0.05, 0.2) * failures)  # noqa: S311

    def _commit(self, producer: TransactionalProducer, works: Sequence[Work]) -> None:
        producer.begin()
        try:
            for work in works:
                letter = work.letter
                if work.to is not None:
                    topic, partition = work.to
                    producer.produce(topic, work.value, letter.key, work.headers, partition=partition)
                entry = msgspec.json.encode(self._entry(work))
                producer.produce(AUDIT, entry, str(letter.id).encode(), partition=0)
        except BaseException:
            producer.abort()
            raise
        producer.commit()

    def _entry(self, work: Work) -> Entry:
        letter = work.letter
        return Entry(
            dead_letter=str(letter.id),
            action=work.action,
            by=self._person.name,
            at=now(),
            command=self._person.command,
            comment=self._person.comment,
            run=self._run,
            service=letter.service,
            group=letter.group,
            reason=letter.reason,
            origin=letter.at,
            redrive_to=work.to,
            changed=work.changed,
            redrives=work.redrives,
            topic_id=self._audit.ids.get(letter.id.topic, ""),
        )

    def _done(self, work: Work) -> Done | None:
        entry = self._audit[work.letter.id]
        if entry is None:
            return None
        mine = entry.run == self._run
        if mine:
            metrics.REDRIVES.labels(work.letter.service, work.letter.at[0], entry.action).inc()
        return Done(work, entry, mine)

    def _let_go(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close()


def _overtaking(works: Sequence[Work]) -> dict[LetterId, Overtakers]:
    late: dict[LetterId, Overtakers] = {}
    for followers in {work.followers for work in works if work.followers is not None}:
        late |= followers.overtaking([work.letter for work in works if work.followers is followers])
    return late


def _giving_up(error: KafkaFault) -> KafkaFault:
    return type(error)(f"{error} Tried {TRIES} times; run the command again: nothing is done twice.")
