"""The transaction coordinator: who holds a transactional id, what its transaction touched, and how it ends.

A transaction ends in four steps: PREPARE is journalled, the markers are written, the offsets take effect, COMPLETE is
journalled. The first decides; after a crash whatever is prepared is carried through, and each step does nothing when
it has been done before.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

from kio.schema.errors import ErrorCode

from millstream.local.broker.coordinator.journal import Entry, Journal
from millstream.local.broker.coordinator.offsets import Committed, Offsets, TopicPartition
from millstream.local.broker.errors import Refused
from millstream.local.broker.timers import Timer, Timers

log = logging.getLogger(__name__)

MAX_TIMEOUT_MS = 15 * 60 * 1000
RETRY_MS = 1000
_MAX_EPOCH = 0x7FFF - 1
_ID_BLOCK = 1000


class State(StrEnum):
    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


class Transaction:
    """What is known of one transactional id. Times are milliseconds since 1970."""

    def __init__(self, transactional_id: str, producer_id: int, epoch: int, timeout: int) -> None:
        self.id = transactional_id
        self.producer_id = producer_id
        self.epoch = epoch
        self.timeout = timeout
        self.state = State.EMPTY
        self.started_at = -1
        self.updated_at = -1
        self.partitions: dict[TopicPartition, None] = {}
        self.groups: dict[str, None] = {}
        self.replaced: tuple[int, int] | None = None
        """The producer id and epoch whose holder was last given the present ones: it may have missed the answer."""
        self.timer: Timer | None = None

    def entry(self) -> Entry:
        done = self.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
        partitions = [] if done else [list(partition) for partition in self.partitions]
        return [
            "transaction", self.id, self.producer_id, self.epoch, self.timeout, self.state, self.started_at,
            self.updated_at, partitions, [] if done else list(self.groups), self.replaced,
        ]  # fmt: skip

    @classmethod
    def read(cls, entry: Entry) -> "Transaction":
        _, transactional_id, producer_id, epoch, timeout, state, started_at, updated_at, *rest = entry
        partitions, groups, replaced = rest
        transaction = cls(transactional_id, producer_id, epoch, timeout)
        transaction.state = State(state)
        transaction.started_at = started_at
        transaction.updated_at = updated_at
        transaction.partitions = dict.fromkeys((topic, index) for topic, index in partitions)
        transaction.groups = dict.fromkeys(groups)
        transaction.replaced = tuple(replaced) if replaced else None
        return transaction


class Markers(Protocol):
    """Writes the marker that ends a transaction in one partition; does nothing if it stands there already or the
    topic is gone."""

    def __call__(self, partition: TopicPartition, producer_id: int, epoch: int, *, commit: bool) -> None: ...


class Transactions:
    """Every transaction by its id. `markers_after`: milliseconds from the decision to the markers; whoever asks
    meanwhile is refused with CONCURRENT_TRANSACTIONS, as a cluster does it. With 0 no client ever meets that."""

    def __init__(
        self, journal: Journal, offsets: Offsets, timers: Timers, markers: Markers, markers_after: int = 0
    ) -> None:
        self.by_id: dict[str, Transaction] = {}
        self._by_producer: dict[int, Transaction] = {}
        self._journal = journal
        self._offsets = offsets
        self._timers = timers
        self._write_marker = markers
        self._markers_after = markers_after
        self._next_producer_id = 0
        self._reserved_until = 0

    # What clients ask for

    def new_producer_id(self) -> int:
        """An id that no producer ever had, nor will have."""
        if self._next_producer_id >= self._reserved_until:
            self._record(["producer_ids", self._next_producer_id + _ID_BLOCK])
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def init(self, transactional_id: str, timeout: int, producer_id: int = -1, epoch: int = -1) -> tuple[int, int]:
        """Give the id to a new holder: the old holder is fenced and its transaction aborted. Returns (producer id,
        epoch).

        With a `producer_id` the holder itself asks for its next epoch. Raises Refused.
        """
        if not transactional_id:
            raise Refused(ErrorCode.invalid_request, "an empty transactional id")
        if not 0 < timeout <= MAX_TIMEOUT_MS:
            raise Refused(ErrorCode.invalid_transaction_timeout, f"a timeout is 1 to {MAX_TIMEOUT_MS} ms")
        transaction = self.by_id.get(transactional_id)
        if transaction is None:
            transaction = Transaction(transactional_id, self.new_producer_id(), 0, timeout)
            self._save(transaction)
            self._remember(transaction)
            return transaction.producer_id, transaction.epoch
        holder = (producer_id, epoch) if producer_id >= 0 else None
        if holder is not None and holder != (transaction.producer_id, transaction.epoch):
            if holder == transaction.replaced and transaction.state is not State.ONGOING:
                self._settle(transaction)
                return transaction.producer_id, transaction.epoch
            raise Refused(ErrorCode.producer_fenced, f"{transactional_id} has a newer holder")
        fences = transaction.state is State.ONGOING
        if fences:
            self._prepare(transaction, commit=False, fence=True, replaced=holder)
            if self._markers_after:
                self._complete_soon(transaction)
        self._settle(transaction)
        with self._saved(transaction):
            # The epoch that fenced the holder's own transaction is new to it, so it may have that one.
            if not (fences and holder) or transaction.epoch > _MAX_EPOCH:
                self._next_epoch(transaction)
            transaction.replaced = holder
            transaction.timeout = timeout
            transaction.state = State.EMPTY
            transaction.started_at = -1
        return transaction.producer_id, transaction.epoch

    def add_partitions(
        self, transactional_id: str, producer_id: int, epoch: int, partitions: Iterable[TopicPartition]
    ) -> None:
        """Take partitions into the transaction, which begins with the first. Raises Refused."""
        transaction = self._held(transactional_id, producer_id, epoch)
        self._extend(transaction, partitions, ())

    def add_group(self, transactional_id: str, producer_id: int, epoch: int, group: str) -> None:
        """Take a group's offsets into the transaction. Raises Refused."""
        transaction = self._held(transactional_id, producer_id, epoch)
        self._extend(transaction, (), (group,))

    def commit_offsets(
        self, transactional_id: str, producer_id: int, epoch: int, group: str, offsets: dict[TopicPartition, Committed]
    ) -> None:
        """Let `offsets` take effect if the transaction commits. Raises Refused unless the group was added to it."""
        transaction = self._held(transactional_id, producer_id, epoch, fenced=ErrorCode.invalid_producer_epoch)
        if transaction.state is not State.ONGOING or group not in transaction.groups:
            raise Refused(
                ErrorCode.transaction_abortable, f"group {group} is not part of a transaction of {transaction.id}"
            )
        self._offsets.commit_in_transaction(producer_id, group, offsets)

    def end(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        *,
        commit: bool,
        decided: Callable[[], None] = lambda: None,
    ) -> None:
        """Commit or abort. To say the same once more is no error. Raises Refused.

        `decided` is called once nothing can change the outcome any more, before the markers are written: if that
        cannot be done now, it is tried again until it can.
        """
        transaction = self._held(transactional_id, producer_id, epoch)
        match transaction.state, commit:
            case (State.ONGOING, _):
                self._prepare(transaction, commit=commit)
                decided()
                self._complete_soon(transaction)
            case (State.COMPLETE_COMMIT, True) | (State.COMPLETE_ABORT, False):
                decided()
            case (State.PREPARE_COMMIT, True) | (State.PREPARE_ABORT, False):
                self._settle(transaction)
                decided()
            case _:
                wish = "commit" if commit else "abort"
                raise Refused(ErrorCode.invalid_txn_state, f"cannot {wish} {transaction.id}: it is {transaction.state}")

    def check_write(self, partition: TopicPartition, producer_id: int, epoch: int) -> None:
        """Raise Refused unless a transactional batch may be written to `partition` now: otherwise nothing would ever
        end it."""
        transaction = self._by_producer.get(producer_id)
        if transaction is None:
            raise Refused(ErrorCode.invalid_producer_id_mapping, f"no transactional id has producer {producer_id}")
        if epoch != transaction.epoch:
            raise Refused(ErrorCode.invalid_producer_epoch, f"{transaction.id} has epoch {transaction.epoch}")
        if transaction.state is not State.ONGOING or partition not in transaction.partitions:
            raise Refused(ErrorCode.transaction_abortable, f"{partition[0]}-{partition[1]} is not in a transaction")

    def is_open(self, producer_id: int, partition: TopicPartition) -> bool:
        """Whether a transaction of this producer, open or about to end, has the partition."""
        transaction = self._by_producer.get(producer_id)
        unfinished = (State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT)
        return transaction is not None and transaction.state in unfinished and partition in transaction.partitions

    def expire(self, before: int) -> None:
        """Forget ids that were not used since `before` (ms) and have nothing open. Raises Refused when the disk
        refuses."""
        idle = (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
        for transaction in [t for t in self.by_id.values() if t.state in idle and t.updated_at <= before]:
            self._record(["transaction_expired", transaction.id])

    # Recovery

    def apply(self, entry: Entry) -> bool:
        """Take one journal entry into the state; False if it is not about transactions."""
        match entry:
            case ["transaction", *_]:
                self._remember(Transaction.read(entry))
            case ["transaction_expired", transactional_id]:
                expired = self.by_id.pop(transactional_id)
                del self._by_producer[expired.producer_id]
            case ["producer_ids", reserved_until]:
                # The rest of the block before it is not used again: that keeps ids unique without a write for each.
                self._next_producer_id = max(self._next_producer_id, self._reserved_until)
                self._reserved_until = reserved_until
            case _:
                return False
        return True

    def recover(self) -> None:
        """After the journal was applied: end what is prepared, and let what is open time out."""
        self._next_producer_id = self._reserved_until
        for transaction in self.by_id.values():
            match transaction.state:
                case State.PREPARE_COMMIT | State.PREPARE_ABORT:
                    log.warning(
                        "ending transaction %s, found as %s",
                        transaction.id,
                        transaction.state,
                        extra={"code": "transaction_found_open"},
                    )
                    self._try_to_complete(transaction)
                case State.ONGOING:
                    self._watch(transaction)

    def snapshot(self) -> Iterator[Entry]:
        yield ["producer_ids", self._reserved_until]
        for transaction in self.by_id.values():
            yield transaction.entry()

    # How it is done

    def _held(
        self, transactional_id: str, producer_id: int, epoch: int, fenced: ErrorCode = ErrorCode.producer_fenced
    ) -> Transaction:
        if not transactional_id:
            raise Refused(ErrorCode.invalid_request, "an empty transactional id")
        transaction = self.by_id.get(transactional_id)
        if transaction is None or transaction.producer_id != producer_id:
            raise Refused(ErrorCode.invalid_producer_id_mapping, f"{transactional_id} has another producer")
        if transaction.epoch != epoch:
            raise Refused(fenced, f"{transactional_id} has epoch {transaction.epoch}, not {epoch}")
        return transaction

    def _extend(self, transaction: Transaction, partitions: Iterable[TopicPartition], groups: Iterable[str]) -> None:
        if transaction.state in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            raise Refused(ErrorCode.concurrent_transactions, f"{transaction.id} has not ended its last transaction")
        begins = transaction.state is not State.ONGOING
        new_partitions, new_groups = dict.fromkeys(partitions), dict.fromkeys(groups)
        if (
            not begins
            and new_partitions.keys() <= transaction.partitions.keys()
            and (new_groups.keys() <= transaction.groups.keys())
        ):
            return
        with self._saved(transaction):
            if begins:
                transaction.state = State.ONGOING
                transaction.started_at = self._timers.clock()
            transaction.partitions = new_partitions if begins else transaction.partitions | new_partitions
            transaction.groups = new_groups if begins else transaction.groups | new_groups
        if begins:
            self._watch(transaction)

    def _prepare(
        self, transaction: Transaction, *, commit: bool, fence: bool = False, replaced: tuple[int, int] | None = None
    ) -> None:
        with self._saved(transaction):
            if fence:
                self._next_epoch(transaction)
                transaction.replaced = replaced
            transaction.state = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        if transaction.timer is not None:
            transaction.timer.cancel()

    def _complete(self, transaction: Transaction) -> None:
        commit = transaction.state is State.PREPARE_COMMIT
        try:
            self._journal.barrier()  # a marker without its decision would leave the other partitions to chance
            for partition in transaction.partitions:
                self._write_marker(partition, transaction.producer_id, transaction.epoch, commit=commit)
            self._offsets.end_transaction(transaction.producer_id, commit=commit)
            self._journal.barrier()  # nobody would write a marker again of which the journal says that it stands
            transaction.state = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
            self._save(transaction)
            transaction.partitions = {}
            transaction.groups = {}
        except Refused as refused:
            transaction.state = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
            log.warning(
                "transaction %s is decided but cannot end yet: %s",
                transaction.id,
                refused,
                extra={"code": "transaction_not_ended"},
            )
            transaction.timer = self._timers.after(RETRY_MS, lambda: self._try_to_complete(transaction))
            raise Refused(ErrorCode.coordinator_not_available, str(refused)) from refused

    def _try_to_complete(self, transaction: Transaction) -> None:
        if transaction.state in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            try:
                self._complete(transaction)
            except Refused:
                return  # a new attempt has been set

    def _complete_soon(self, transaction: Transaction) -> None:
        """Write the markers of what is decided: now, or when a cluster would have written them."""
        if self._markers_after:
            transaction.timer = self._timers.after(self._markers_after, lambda: self._try_to_complete(transaction))
        else:
            self._try_to_complete(transaction)

    def _settle(self, transaction: Transaction) -> None:
        """Return once nothing of a decided transaction is left to do. Raises Refused: ask again."""
        if transaction.state not in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            return
        if self._markers_after:
            raise Refused(ErrorCode.concurrent_transactions, f"{transaction.id} has not ended its last transaction")
        self._complete(transaction)

    def _next_epoch(self, transaction: Transaction) -> None:
        if transaction.epoch < _MAX_EPOCH or transaction.state is State.ONGOING:
            transaction.epoch += 1
        else:
            transaction.producer_id, transaction.epoch = self.new_producer_id(), 0

    def _watch(self, transaction: Transaction) -> None:
        left = max(transaction.started_at + transaction.timeout - self._timers.clock(), 0)
        transaction.timer = self._timers.after(left, lambda: self._time_out(transaction))

    def _time_out(self, transaction: Transaction) -> None:
        if transaction.state is State.ONGOING:
            log.warning(
                "transaction %s was open for %d ms and is aborted",
                transaction.id,
                transaction.timeout,
                extra={"code": "transaction_timed_out"},
            )
            try:
                self._prepare(transaction, commit=False, fence=True)
                self._complete_soon(transaction)
            except Refused as refused:
                log.warning(
                    "cannot abort transaction %s yet: %s",
                    transaction.id,
                    refused,
                    extra={"code": "timed_out_transaction_not_aborted"},
                )
                transaction.timer = self._timers.after(RETRY_MS, lambda: self._time_out(transaction))

    def _remember(self, transaction: Transaction) -> None:
        before = self.by_id.get(transaction.id)
        if before is not None:
            self._by_producer.pop(before.producer_id, None)
        self.by_id[transaction.id] = transaction
        self._by_producer[transaction.producer_id] = transaction

    @contextmanager
    def _saved(self, transaction: Transaction) -> Iterator[None]:
        """Save what changes in the block. If the disk refuses, nothing has changed."""
        before = dict(vars(transaction))
        try:
            yield
            self._save(transaction)
        except Refused:
            vars(transaction).update(before)
            raise
        if transaction.producer_id != before["producer_id"]:
            del self._by_producer[before["producer_id"]]
            self._by_producer[transaction.producer_id] = transaction

    def _save(self, transaction: Transaction) -> None:
        transaction.updated_at = self._timers.clock()
        self._journal.add(transaction.entry())

    def _record(self, entry: Entry) -> None:
        self._journal.add(entry)
        self.apply(entry)
