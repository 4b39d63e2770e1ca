"""The relay: publishes a service's outbox, in the order of commits, each row once.

Its position, the number of the next row, is committed in the same Kafka transaction as the records. So whether a
transaction happened is always known afterwards, and published rows can be deleted later, many at a time. It is stored
in the metadata beside an offset that means nothing: a tool that copies a group to another cluster translates offsets,
and a row number that was translated is another row.
"""

import fcntl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from millstream.declare import Kind, Service
from millstream.errors import CommitUnknown, ConfigurationError, Fenced, MillstreamError, RecordsRefused
from millstream.kafka import Kafka, TopicPartition
from millstream.kafka.limits import RecordLimits, record_bytes
from millstream.runtime.loop.commit_note import cluster_token
from millstream.runtime.sql.database import READ_ONLY, beside, is_sqlite, passing
from millstream.runtime.sql.outbox import Outbox, OutboxRow, identity
from millstream.settings import MAX_BYTES
from millstream.telemetry import metrics
from millstream.telemetry.logs import get_logger
from millstream.telemetry.signs_of_life import still_alive
from millstream.timeouts import RELAY_PAUSES

log = get_logger(__name__)

ROWS_PER_TRANSACTION = 500
POLL_SECONDS = 0.05
"""Seconds between two polls of the outbox, for rows of other instances, which cannot wake this one."""
STANDBY_SECONDS = 1.0
"""Seconds after which an instance that does not relay tries to become the one that does."""
TIDY_SECONDS, TIDY_ROWS = 1.0, 1_000
"""Published rows are deleted this often, or when there are this many."""
FORM = "ms-relay1"
NO_OFFSET = 0
"""The offset that carries the position in its metadata."""
BEGIN_ANEW = "DELETE FROM millstream_identity"
RELAY_LOCK = 0x6D696C6C
"""First half of the PostgreSQL advisory lock that a service's active relay holds; the second is its name's checksum."""


class Relay:
    """The worker that publishes the outbox of `service`.

    - `engine`: the service's database, from `open_database`.
    - `wake`: set by the worker that committed outbox rows in this process.
    - `poll_seconds`: how often to look without being woken.
    - `client_bytes`: how large a record may be that this process writes.

    Instances of one service agree among themselves which of them relays.
    """

    def __init__(
        self,
        service: Service,
        kafka: Kafka,
        engine: Engine,
        wake: threading.Event,
        *,
        poll_seconds: float = POLL_SECONDS,
        client_bytes: int = MAX_BYTES,
    ) -> None:
        self.name = f"{service.name}.relay"
        self._service = service
        self._kafka = kafka
        self._engine = engine
        self._wake = wake
        self._poll_seconds = poll_seconds
        self._client_bytes = client_bytes
        self._tried_again = False
        self._pause = RELAY_PAUSES.first

    def run(self, stop: threading.Event) -> None:
        """Relay until `stop` is set, and publish once more what has been committed by then.

        Transient errors are waited out; a row that cannot be decoded or published goes to the table of refused rows.
        Raises `MillstreamError` for a topic that does not exist or that the service may not write, and
        `ConfigurationError` for a database of which more was published than it knows of.
        """
        while not stop.is_set():
            try:
                with relay_lock(self._engine, self._service.name) as mine:
                    if mine:
                        self._relay(stop)
                self._pause = STANDBY_SECONDS
            except Fenced as fenced:
                log.warning("another relay took over", code="relay_fenced", relay=self.name, error=str(fenced))
                self._pause = STANDBY_SECONDS
            except (MillstreamError, DBAPIError) as error:
                if not _will_pass(error):
                    raise
                log.warning("the relay begins again", code="relay_restarted", relay=self.name, error=str(error))
                self._pause = RELAY_PAUSES.after(self._pause)
            stop.wait(self._pause)

    def _relay(self, stop: threading.Event) -> None:
        turn = Turn(self._service, self._kafka, self._engine, self._client_bytes)
        try:
            turn.begin()
            if not self._tried_again:
                turn.try_refused_again()
                self._tried_again = True
            last = False
            while not last:
                # Both read before looking: what commits meanwhile is seen in the next round, and there is a next round.
                self._wake.clear()
                last = stop.is_set()
                turn.publish_all()
                self._pause = RELAY_PAUSES.first
                # At the end too: only the position tells rows that stay behind from new ones, and Kafka expires
                # it some day.
                turn.tidy(now=last)
                if not last:
                    self._wake.wait(self._poll_seconds)
        finally:
            turn.close()


class Turn:
    """One period as the relay: from reading the position until it stops or fails."""

    def __init__(self, service: Service, kafka: Kafka, engine: Engine, client_bytes: int = MAX_BYTES) -> None:
        self._group = f"{service.name}.relay"
        self._kafka = kafka
        self._engine = engine
        self._reading = engine.execution_options(**READ_ONLY)
        self._outbox = Outbox(service.name)
        self._identity = ""
        # Any partition that is sure to exist can carry the position; this one the service has the right to read.
        self._home: TopicPartition = (service.consumed(Kind.SQL)[0].name, 0)
        self._next = self._deleted_before = 0
        self._tidy_at = 0.0
        self._pending = metrics.OUTBOX_PENDING.labels(service.name)
        self._refused = metrics.OUTBOX_REFUSED.labels(service.name)
        self._limits = RecordLimits(kafka, client_bytes)
        self._known: set[str] = set()
        """Topics whose limits were asked for."""
        self._together = ROWS_PER_TRANSACTION
        self._batch_bytes = min(client_bytes, 1_000_000)  # as librdkafka has it
        self._producer = kafka.transactional_producer(self._group)
        # Never subscribed: it only lends the group's name to the offsets.
        self._member = kafka.consumer(self._group)

    def begin(self) -> None:
        """Settle the transaction that a predecessor left open, and only then read its position.

        Raises `ConfigurationError` for a database that was restored to an earlier state.
        """
        self._producer.init()
        admin = self._kafka.admin()
        try:
            committed = admin.group_offsets(self._group)
            self._identity = f"{identity(self._engine)}@{cluster_token(admin.cluster_id())}"
        finally:
            admin.close()
        # An earlier declaration may have put it on another partition; the highest is the last, since ids only grow.
        # Positions in a database that was replaced say nothing about this one.
        # Nor does one in another cluster: which of its records were copied is not known. What it has published there
        # and not deleted yet is published again here, with the ids that it had.
        positions = [read_position(found.metadata) for found in committed.values()]
        self._next = max((row for of, row in filter(None, positions) if of == self._identity), default=0)
        with self._reading.connect() as connection:
            newest = self._outbox.newest(connection)
        if self._next > newest + 1:
            # New rows would get numbers that were published, and never be.
            raise ConfigurationError(
                f"{self._group} has published {self._next - 1} rows of the outbox, but its database "
                f"({self._engine.url.render_as_string()}) has numbered no more than {newest}: was it restored from a "
                f"backup? {BEGIN_ANEW} there, and start again: it counts as a new database then. What was done since "
                "the backup is done again, and its events are published again, with the ids that they had."
            )

    def try_refused_again(self) -> None:
        """Append refused rows to the outbox: the cause of the refusal may be gone."""
        with self._reading.connect() as connection:
            if not self._outbox.refused(connection):
                return
        with self._engine.begin() as connection:
            again = self._outbox.put_back(connection, self._next)
        log.info("outbox rows tried again", code="outbox_rows_tried_again", relay=self._group, rows=again)

    def publish_all(self) -> None:
        """Publish what waits, in transactions of bounded size. Rows that cannot be published are refused.

        Raises a `KafkaFault`, after which the position must be read again.
        """
        while rows := self._waiting_rows():
            still_alive()
            try:
                self._publish(rows)
            except RecordsRefused as refused:
                self._narrow_down(rows, refused)
            else:
                self._together = min(ROWS_PER_TRANSACTION, 2 * self._together)

    def tidy(self, *, now: bool = False) -> None:
        """Delete published rows, every `TIDY_SECONDS` or `now`."""
        published, moment = self._next - self._deleted_before, time.monotonic()
        if published < TIDY_ROWS and moment < self._tidy_at and not now:
            return
        self._tidy_at = moment + TIDY_SECONDS
        if published:
            with self._engine.begin() as connection:
                self._outbox.delete_before(connection, self._next)
            self._deleted_before = self._next
        with self._reading.connect() as connection:
            self._pending.set(self._outbox.waiting(connection, self._next)[0])
            self._refused.set(self._outbox.refused(connection))

    def close(self) -> None:
        self._producer.close()
        self._member.close()

    def _waiting_rows(self) -> list[OutboxRow]:
        with self._reading.connect() as connection:
            return self._outbox.rows_from(connection, self._next, self._together)

    def _narrow_down(self, rows: list[OutboxRow], refused: RecordsRefused) -> None:
        """A broker refuses a batch and does not say for which record: half as many rows are tried next; one alone is
        the one."""
        log.warning(
            "records refused",
            code="records_refused",
            relay=self._group,
            topic=refused.topic,
            rows=len(rows),
            error=str(refused),
        )
        self._limits.ask([refused.topic])
        self._keep_to_limits()
        # The producer is a new one after this, as one that was fenced meanwhile would be: read its position.
        self.begin()
        if rows[0].seq != self._next:
            return
        if len(rows) == 1:
            self._refuse(rows[0], str(refused))
            self._publish([], rows[0].seq + 1)
        self._together = max(1, len(rows) // 2)

    def _keep_to_limits(self) -> bool:
        """Apply the limits of topics; return whether that made a new producer."""
        if self._limits.smallest >= self._batch_bytes:
            return False
        self._batch_bytes = self._limits.smallest
        self._producer.keep_to(self._batch_bytes)
        return True

    def _publish(self, rows: list[OutboxRow], after: int | None = None) -> None:
        producer, after = self._producer, after or rows[-1].seq + 1
        # First of all: its topics are new to this relay, or what is too large for them is to be known by now.
        if new := {row.topic for row in rows} - self._known:
            self._known |= new
            self._limits.ask(new)
            if self._keep_to_limits():
                self.begin()
                return
        rows = [row for row in rows if not self._is_refused(row)]
        producer.begin()
        for row in rows:
            producer.produce(row.topic, row.value, row.key, row.headers)
        home = self._home
        position = write_position(self._identity, after)
        producer.send_offsets({home: NO_OFFSET}, self._member.group_metadata(), {home: position})
        producer.commit()
        self._next = after

    def _is_refused(self, row: OutboxRow) -> bool:
        """Return whether a row cannot be published; then it is refused."""
        if row.headers is None:
            self._refuse(row, "its headers cannot be read")
            return True
        size = record_bytes(row.key, row.value, row.headers)
        if size > self._limits.record(row.topic):
            self._limits.changed()
        if size <= (limit := self._limits.record(row.topic)):
            return False
        self._refuse(
            row,
            f"it has {size:,} bytes, and {row.topic} takes {limit:,}: raise max.message.bytes of the topic, and "
            "message.max.bytes here (MILLSTREAM_KAFKA) where that is less; then restart the service",
        )
        return True

    def _refuse(self, row: OutboxRow, reason: str) -> None:
        """Refuse a row before the position moves past it: after a crash in between it is found and refused again."""
        with self._engine.begin() as connection:
            self._outbox.refuse(connection, row.seq, reason)
        log.error(
            "outbox row refused",
            code="outbox_row_refused",
            relay=self._group,
            topic=row.topic,
            seq=row.seq,
            reason=reason,
            remedy="it is kept in millstream_outbox_refused, and tried again when the relay starts",
        )


def write_position(identity: str, row: int) -> str:
    """Return the metadata to commit: the database and cluster that it counts for, and the number of the next row.

    >>> read_position(write_position("0f3c@c1", 7))
    ('0f3c@c1', 7)
    """
    return f"{FORM} {identity} {row}"


def read_position(metadata: str) -> tuple[str, int] | None:
    """Return database and row of a position; None for metadata that no relay wrote."""
    match metadata.split(" "):
        case [form, identity, row] if form == FORM and row.isdecimal():
            return identity, int(row)
        case _:
            return None


def _will_pass(error: MillstreamError | DBAPIError) -> bool:
    if isinstance(error, DBAPIError):
        return passing(error)
    return error.retriable or isinstance(error, CommitUnknown)


@contextmanager
def relay_lock(engine: Engine, service: str) -> Iterator[bool]:
    """Try to become the one relay of a service and database: yield whether this process is it within the block.

    The lock is released when its holder dies. A holder that lost its connection without noticing is fenced by its
    successor, which uses the same transactional id.
    """
    holding = _file_lock(engine, service) if is_sqlite(engine) else _advisory_lock(engine, service)
    with holding as mine:
        yield mine


@contextmanager
def _file_lock(engine: Engine, service: str) -> Iterator[bool]:
    with beside(engine, f".{service}.relay-lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _advisory_lock(engine: Engine, service: str) -> Iterator[bool]:
    key = {"lock": RELAY_LOCK, "service": zlib.crc32(service.encode()) - 2**31}
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        yield bool(connection.execute(text("SELECT pg_try_advisory_lock(:lock, :service)"), key).scalar_one())
    finally:
        # Closes the server's session, and with it the lock; a pool would keep both.
        connection.invalidate()
        connection.close()
