"""A simulated transactional producer."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from millstream.errors import CommitUnknown, EncodeError, Fenced, KafkaFault, TransactionAborted, Unavailable
from millstream.kafka.port import Headers, Offsets, TopicPartition
from millstream.settings import Settings
from millstream.testing.simulation.cluster.broker import ConnectionLost
from millstream.testing.simulation.cluster.clients.client import AGAIN, TRANSIENT, Client, failure_of, offsets_by_topic
from millstream.testing.simulation.cluster.clients.sender import Failure, Sender
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.scheduler.tasks import Steps
from millstream.timeouts import CHANGE_TIMEOUT, CLOSE_TIMEOUT, REQUEST_TIMEOUT


class SimulatedTransactionalProducer(Client):
    """`millstream.kafka.port.TransactionalProducer`; see there for the contract."""

    def __init__(self, host: Host, settings: Settings, client_id: str, transactional_id: str) -> None:
        super().__init__(host, client_id)
        self.transactional_id = transactional_id
        self._timeout_ms = settings.transaction_timeout_ms
        self._sender = Sender(self, settings, transactional_id=transactional_id, enlist=self._enlist)
        self._partitions: dict[TopicPartition, None] = {}
        self._groups: dict[str, None] = {}
        self._began: int | None = None
        self._fenced: Fenced | None = None

    def init(self, timeout: float = CHANGE_TIMEOUT) -> None:
        if self._fenced is not None:
            raise self._fenced
        self._discard()
        doing = f"starting transactions as {self.transactional_id!r}"
        try:
            self._sender.identify(self.do(self._get_identity(doing), timeout, doing))
            self.broken = False
        except Fenced as fenced:
            self._fenced = fenced
            raise
        self.record(f"transactions {self.transactional_id}: epoch {(self._sender.identity or (0, 0))[1]}")

    def begin(self, timeout: float = CHANGE_TIMEOUT) -> None:
        if self._fenced is not None:
            raise self._fenced
        if self._sender.identity is None:
            self.init(timeout)
        if self._began is not None:
            raise KafkaFault(f"{self.transactional_id!r} has an open transaction: end it first.")
        self._began = self.scheduler.now
        self._partitions.clear()
        self._groups.clear()

    def keep_to(self, batch_bytes: int) -> None:
        self._sender.batch_bytes = min(self._sender.batch_bytes, batch_bytes)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        self._check_open()
        if self._sender.failure is not None:
            self._abort_after(self._sender.failure, f"writing to {topic!r}")
        self._sender.add(topic, value, key, headers, partition, timestamp)

    def send_offsets(
        self, offsets: Offsets, group_metadata: Any, metadata: Mapping[TopicPartition, str] | None = None
    ) -> None:
        self._check_open()
        doing = f"sending offsets as {self.transactional_id!r}"
        try:
            steps = self._send_offsets(offsets, group_metadata, metadata or {}, doing)
            self.do(steps, self._timeout_ms / 1000, doing)
        except KafkaFault as failure:
            self._abort_after(failure, "sending offsets")

    def commit(self, timeout: float | None = None) -> None:
        self._check_open()
        doing = f"committing as {self.transactional_id!r}"
        try:
            self.do(self._commit(doing), timeout or self._timeout_ms / 1000, doing)
        except (Unavailable, _Undecided) as unknown:
            self.record(f"transactions {self.transactional_id}: whether it is committed is not known")
            self._discard()
            raise CommitUnknown(
                f"Whether the transaction of {self.transactional_id!r} was committed is not known: {unknown}. "
                "Begin again, then look at what is committed."
            ) from unknown
        except (KafkaFault, EncodeError) as failure:
            self._abort_after(failure, "committing")
        self._began = None
        self._discard_if_broken()
        self.record(f"transactions {self.transactional_id}: committed")

    def abort(self, timeout: float = REQUEST_TIMEOUT) -> None:
        if self._began is None:
            return
        open_for, self._began = self.open_seconds, None
        uncertain = self._sender.drop() or self._sender.failure is not None
        self.record(f"transactions {self.transactional_id}: aborts")
        if uncertain or self._partitions or self._groups:
            doing = f"aborting a transaction as {self.transactional_id!r}"
            try:
                self.do(self._end(doing, commit=False), timeout, doing)
            except Fenced as fenced:
                self._become_fenced(fenced, open_for)
            except (KafkaFault, _Undecided):
                # A successor's init aborts it for us: it was never committed.
                uncertain = True
        if uncertain:
            self._discard()
        self._discard_if_broken()

    @property
    def open_seconds(self) -> float:
        return 0.0 if self._began is None else (self.scheduler.now - self._began) / 1_000_000

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        with suppress(Fenced):  # a newer holder ended it
            self.abort(timeout)
        self._discard()
        self._sender.close()
        self.connection.close()

    def _check_open(self) -> None:
        if self._began is None:
            raise KafkaFault(f"{self.transactional_id!r} has no open transaction: call begin() first.")

    def _get_identity(self, doing: str) -> Steps[tuple[int, int]]:
        while True:
            answer = yield from self.ask(
                "init_producer_id",
                transactional_id=self.transactional_id,
                transaction_timeout=self._timeout_ms,
                producer_id=-1,
                producer_epoch=-1,
            )
            if not answer.error_code:
                return answer.producer_id, answer.producer_epoch
            if answer.error_code not in TRANSIENT:
                raise failure_of(answer.error_code, doing)
            yield AGAIN

    def _enlist(self, partitions: Iterable[TopicPartition]) -> Steps[None]:
        new = [partition for partition in partitions if partition not in self._partitions]
        if not new:
            return
        topics: dict[str, list[int]] = {}
        for topic, index in new:
            topics.setdefault(topic, []).append(index)
        # Noted first: it may get there though its answer does not.
        self._partitions.update(dict.fromkeys(new))
        producer_id, epoch = self._sender.identity or (-1, -1)
        while True:
            answer = yield from self.ask(
                "add_partitions_to_txn",
                v3_and_below_transactional_id=self.transactional_id,
                v3_and_below_producer_id=producer_id,
                v3_and_below_producer_epoch=epoch,
                v3_and_below_topics=[{"name": name, "partitions": indexes} for name, indexes in topics.items()],
            )
            results = [each for topic in answer.results_by_topic_v3_and_below for each in topic.results_by_partition]
            errors = [result.partition_error_code for result in results if result.partition_error_code]
            if not errors:
                return
            if errors[0] not in TRANSIENT - {3}:
                raise failure_of(errors[0], f"writing to {', '.join(topics)}")
            yield AGAIN

    def _send_offsets(
        self, offsets: Offsets, member: Any, notes: Mapping[TopicPartition, str], doing: str
    ) -> Steps[None]:
        producer_id, epoch = self._sender.identity or (-1, -1)
        self._groups[member.group] = None
        common = {
            "transactional_id": self.transactional_id,
            "producer_id": producer_id,
            "producer_epoch": epoch,
            "group_id": member.group,
        }
        while True:
            answer = yield from self.ask("add_offsets_to_txn", **common)
            if not answer.error_code:
                break
            if answer.error_code not in TRANSIENT:
                raise failure_of(answer.error_code, doing)
            yield AGAIN
        while True:
            answer = yield from self.ask(
                "txn_offset_commit",
                **common,
                generation_id=member.generation,
                member_id=member.member_id if member.generation >= 0 else "",
                group_instance_id=member.instance,
                topics=offsets_by_topic(offsets, notes),
            )
            errors = [entry.error_code for topic in answer.topics for entry in topic.partitions if entry.error_code]
            if not errors:
                return
            if errors[0] not in TRANSIENT:
                raise failure_of(errors[0], doing)
            yield AGAIN

    def _commit(self, doing: str) -> Steps[None]:
        while self._sender.pending and self._sender.failure is None:
            yield self._sender.changed.next()
        if self._sender.failure is not None:
            raise self._sender.failure
        if self._partitions or self._groups:
            yield from self._end(doing, commit=True)

    def _end(self, doing: str, *, commit: bool) -> Steps[None]:
        producer_id, epoch = self._sender.identity or (-1, -1)
        while True:
            try:
                answer = yield from self.ask_once(
                    "end_txn",
                    transactional_id=self.transactional_id,
                    producer_id=producer_id,
                    producer_epoch=epoch,
                    committed=commit,
                )
            except ConnectionLost as lost:
                faults, chance = self.host.network.faults, self.scheduler.random
                if faults.disconnect and chance.random() < faults.commit_unknown:
                    raise _Undecided("the connection broke") from lost
                yield AGAIN
                continue
            if not answer.error_code:
                return
            if answer.error_code not in TRANSIENT:
                failure = failure_of(answer.error_code, doing)
                raise failure if isinstance(failure, Fenced) else _Undecided(str(failure))
            yield AGAIN

    def _abort_after(self, failure: Failure, doing: str) -> None:
        """Abort a transaction that cannot go on, and raise what the caller has to know."""
        if isinstance(failure, Fenced):
            self._become_fenced(failure, self.open_seconds)
        self.abort()
        if isinstance(failure, EncodeError) or not (failure.retriable or type(failure) is KafkaFault):
            raise failure
        raise TransactionAborted(f"Aborted while {doing} as {self.transactional_id!r}: {failure}") from failure

    def _become_fenced(self, fenced: Fenced, open_for: float) -> None:
        self._discard()
        late = open_for * 1000 >= self._timeout_ms
        hint = f" It had been open for {open_for:.1f} s, longer than transaction.timeout.ms allows" if late else ""
        self._fenced = Fenced(f"{fenced}{hint}")
        self.record(f"transactions {self.transactional_id}: fenced")
        raise self._fenced

    def _discard(self) -> None:
        """Leave this epoch: what is still on its way must not reach the next transaction."""
        self._began = None
        self._sender.drop()
        self._sender.identify(None)

    def _discard_if_broken(self) -> None:
        """Leave this epoch if a request lost its answer: it may arrive late, in the next transaction."""
        if self.broken:
            self._discard()


class _Undecided(Exception):
    """The end of a transaction was requested, and whether the broker carried it out is unknown."""
