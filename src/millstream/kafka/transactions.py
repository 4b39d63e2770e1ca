"""A transactional producer on librdkafka.

Three rules of librdkafka's shape this file. An error says by itself what must be done: abort, try the same call again,
or give the producer up. Offsets are sent again with identical arguments, and a commit is resumed by calling it again.
And since librdkafka speaks the first transaction protocol (no KIP-890), a commit whose answer never came can still
arrive later: only a new producer, whose epoch shuts the old one out, may begin the next transaction.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Producer as Librdkafka
from confluent_kafka.cimpl import KafkaError, KafkaException

from millstream.errors import CommitUnknown, Fenced, KafkaFault, MillstreamError, TransactionAborted
from millstream.kafka.consumer import native_offsets
from millstream.kafka.faults import fault, is_fenced, kafka_error, made, undelivered
from millstream.kafka.port import Headers, Offsets, TopicPartition
from millstream.kafka.producer import BATCH_BYTES, let_go, trouble, wait_for_room
from millstream.telemetry.logs import get_logger
from millstream.telemetry.signs_of_life import native_call
from millstream.timeouts import CHANGE_TIMEOUT, CLOSE_TIMEOUT, REQUEST_TIMEOUT

log = get_logger(__name__)

PAUSE = 0.05
"""Seconds between tries of a call that librdkafka says may be tried again."""


class ExactlyOnceProducer:
    """`millstream.kafka.port.TransactionalProducer` over librdkafka; see there for the contract."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.transactional_id: str = properties["transactional.id"]
        self._timeout = float(properties["transaction.timeout.ms"]) / 1000
        self._properties = properties | {"on_delivery": self._undelivered, "error_cb": trouble}
        self._native: Librdkafka | None = None
        self._produce: Callable[..., None] = self._not_begun
        self._began: float | None = None
        self._refused: MillstreamError | None = None
        self._spoilt = False
        """A batch was refused for good: this producer's next transaction would fail, a new producer's does not."""
        self._fenced: Fenced | None = None

    def init(self, timeout: float = CHANGE_TIMEOUT) -> None:
        if self._fenced is not None:
            # Starting again would fence the one that fenced us, without end.
            raise self._fenced
        self._discard()
        native = made(Librdkafka, self._properties)
        deadline = time.monotonic() + timeout
        try:
            # Be connected first: librdkafka comes back half a second later to a coordinator that it cannot ask at once.
            self._retry("list_topics", lambda left: native.list_topics(timeout=left), timeout)
            self._retry("init_transactions", lambda left: native.init_transactions(left), deadline - time.monotonic())
        except KafkaException as raised:
            let_go(native)
            raise fault(raised, f"starting transactions as {self.transactional_id!r}") from raised
        self._native = native
        self._produce = native.produce

    def begin(self, timeout: float = CHANGE_TIMEOUT) -> None:
        if self._native is None:
            self.init(timeout)
        assert self._native is not None
        self._refused = None
        try:
            self._native.begin_transaction()
        except KafkaException as raised:
            self._discard()
            raise fault(raised, f"beginning a transaction as {self.transactional_id!r}") from raised
        self._began = time.monotonic()

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        try:
            self._produce(topic, value, key, partition, None, None, timestamp, headers)
        except BufferError:
            assert self._native is not None
            wait_for_room(self._native, topic)
            self.produce(topic, value, key, headers, partition, timestamp)
        except KafkaException as raised:
            self._give_up_produce(raised, topic)

    def send_offsets(
        self, offsets: Offsets, group_metadata: Any, metadata: Mapping[TopicPartition, str] | None = None
    ) -> None:
        native, entries = self._open(), native_offsets(offsets, metadata)
        try:
            self._retry(
                "send_offsets_to_transaction",
                lambda left: native.send_offsets_to_transaction(entries, group_metadata, left),
                self._timeout,
            )
        except KafkaException as raised:
            self._give_up(raised, "sending offsets")

    def commit(self, timeout: float | None = None) -> None:
        native = self._open()
        try:
            self._retry("commit_transaction", lambda left: native.commit_transaction(left), timeout or self._timeout)
        except KafkaException as raised:
            error = kafka_error(raised)
            if error.txn_requires_abort() or is_fenced(error):
                self._give_up(raised, "committing")
            self._discard()
            raise CommitUnknown(
                f"Whether the transaction of {self.transactional_id!r} was committed is not known: {error.str()} "
                f"({error.name()}). Begin again, then look at what is committed."
            ) from raised
        self._began = None

    def abort(self, timeout: float = REQUEST_TIMEOUT) -> None:
        if self._native is None or self._began is None:
            return
        native, self._began = self._native, None
        try:
            self._retry("abort_transaction", lambda left: native.abort_transaction(left), timeout)
            native.poll(0)
            if self._spoilt:
                self._discard()
        except KafkaException as raised:
            # A successor's init aborts it for us: it was never committed.
            self._discard()
            if is_fenced(kafka_error(raised)):
                self._fall(kafka_error(raised), f"aborting a transaction as {self.transactional_id!r}", 0.0)
            log.warning(
                "transaction could not be aborted; its successor will",
                code="transaction_not_aborted",
                error=str(raised),
            )

    def keep_to(self, batch_bytes: int) -> None:
        if batch_bytes < int(self._properties.get("batch.size", BATCH_BYTES)):
            self._properties["batch.size"] = batch_bytes
            # It is a property of the whole client.
            self._discard()

    @property
    def open_seconds(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        try:
            self.abort(timeout)
        except Fenced as fenced:
            log.warning("fenced at close", code="fenced_at_close", error=str(fenced))
        self._discard()

    def _open(self) -> Librdkafka:
        if self._native is None or self._began is None:
            raise KafkaFault(f"{self.transactional_id!r} has no open transaction: call begin() first.")
        return self._native

    def _not_begun(self, *_: object) -> None:
        self._open()

    def _retry(self, name: str, call: Callable[[float], object], timeout: float) -> None:
        """Make a call, again and again while librdkafka calls its failure retriable, for at most `timeout` seconds.

        librdkafka may not return at all, so the watchdog knows of it under `name`.
        """
        deadline = time.monotonic() + timeout
        with native_call(name, self.transactional_id, timeout):
            while True:
                try:
                    call(max(0.1, deadline - time.monotonic()))
                except KafkaException as raised:
                    error = kafka_error(raised)
                    if not error.retriable() or error.txn_requires_abort() or time.monotonic() >= deadline:
                        raise
                    time.sleep(PAUSE)  # before it is tried again
                else:
                    return

    def _give_up_produce(self, raised: KafkaException, topic: str) -> None:
        self._open()
        error = kafka_error(raised)
        failure = fault(error, f"writing to {topic!r}")
        if not error.fatal() and not error.txn_requires_abort() and error.code() != KafkaError._STATE:
            if not isinstance(failure, KafkaFault):
                raise failure from raised
            self._refused = failure
        self._give_up(raised, f"writing to {topic!r}")

    def _give_up(self, raised: KafkaException, doing: str) -> None:
        """The transaction cannot go on: end it, and raise what the caller has to know."""
        error, open_for = kafka_error(raised), self.open_seconds
        what = f"{doing} as {self.transactional_id!r}"
        if is_fenced(error) and error.code() != KafkaError.FENCED_INSTANCE_ID:
            self._fall(error, what, open_for)
        # A member of the group is fenced, not this producer: the next poll finds out by whom.
        if self._native is not None:
            # What a broker refused is known by a delivery report, which may wait to be looked at.
            try:
                self._native.poll(0)
            except KafkaException as fatal:  # which `raised` may only hint at: a fenced producer says so here
                if is_fenced(kafka_error(fatal)):
                    self._fall(kafka_error(fatal), what, open_for)
        if error.fatal():
            self._discard()
        else:
            self.abort()
        if self._refused is not None:
            raise self._refused from raised
        raise TransactionAborted(f"Aborted while {what}: {error.str()} ({error.name()}). Do it again.") from raised

    def _fall(self, error: KafkaError, what: str, open_for: float) -> None:
        self._discard()
        late = open_for >= self._timeout
        hint = f" It had been open for {open_for:.1f} s, longer than transaction.timeout.ms allows" if late else ""
        self._fenced = Fenced(f"{fault(error, what)}{hint}")
        raise self._fenced

    def _undelivered(self, error: KafkaError | None, message: Any) -> None:
        if (
            error is None
            or self._refused is not None
            or error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
        ):
            return
        failure = undelivered(error, message.topic())
        if not failure.retriable and not isinstance(failure, Fenced):
            self._refused = failure
            # Its sequence numbers are used up here and unknown to the broker, which would refuse the next transaction:
            # OUT_OF_ORDER_SEQUENCE_NUMBER.
            self._spoilt = True
            if self._native is not None:
                # What follows in its partitions would be tried in vain until message.timeout.ms is over.
                self._native.purge(blocking=False)

    def _discard(self) -> None:
        self._began = None
        self._spoilt = False
        if self._native is not None:
            native, self._native, self._produce = self._native, None, self._not_begun
            let_go(native)
