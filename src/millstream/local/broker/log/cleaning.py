"""What compaction leaves of one batch."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from millstream.local.broker.log.aborted import Aborted
from millstream.local.broker.log.batch import (
    COMPRESSION_MASK,
    DELETE_HORIZON,
    TIMESTAMP_TYPE,
    BadBatch,
    BatchHeader,
    read_body,
    read_varint,
    seal_batch,
    varint,
)
from millstream.local.broker.log.codecs import pack
from millstream.local.broker.log.producers import Producers

Span = tuple[int, int, bytes | None, bool, int, int]
"""A record within its batch: offset delta, timestamp delta, key, whether it has a value, where it starts and ends."""


class AbortedRecords:
    """Tells which batches belong to aborted transactions."""

    def __init__(self, aborted: Iterable[Aborted]) -> None:
        self._by_producer: dict[int, list[tuple[int, int]]] = {}
        for producer_id, first, marker in aborted:
            self._by_producer.setdefault(producer_id, []).append((marker, first))

    def hold(self, header: BatchHeader) -> bool:
        ended = self._by_producer.get(header.producer_id) if header.is_transactional else None
        if not ended:
            return False
        at = bisect_left(ended, (header.base_offset, 0))
        return at < len(ended) and ended[at][1] <= header.base_offset


class Cleaner:
    """Goes through the batches of one log in order, from its first one to `until`.

    Keeps the last record of each key: `latest` has its offset, by `digest`, for all keys that occur before `until`
    and may be superseded. A batch keeps its place, its producer, its sequence and its offsets, whatever is left of
    it. Tombstones, and markers of transactions of which nothing else is left, stay `delete_retention` ms longer than
    the first cleaning that met them. The last batch of a producer stays, if need be without records: its sequence
    tells a repeated batch from a new one.
    """

    def __init__(
        self,
        latest: Mapping[bytes, int],
        until: int,
        aborted: AbortedRecords,
        producers: Producers,
        now: int,
        delete_retention: int,
    ) -> None:
        self._latest = latest
        self._until = until
        self._aborted = aborted
        self._producers = producers
        self._now = now
        self._delete_retention = delete_retention
        self._with_data: set[int] = set()
        self.removed_markers: set[int] = set()

    def clean(self, header: BatchHeader, batch: bytes) -> bytes | bytearray | None:
        """What stays of the batch: itself if nothing changed, None if nothing stays."""
        if header.base_offset >= self._until:
            return batch
        if header.is_control:
            return self._clean_marker(header, batch)
        if self._aborted.hold(header):
            left = self._without_records(header, batch)
            if left is not None:
                self._with_data.add(header.producer_id)
            return left
        if header.is_transactional:
            self._with_data.add(header.producer_id)
        try:
            return self._clean_records(header, batch)
        except BadBatch:  # its records were never checked, and cannot be read: nobody can say what to drop
            return batch

    def _clean_marker(self, header: BatchHeader, batch: bytes) -> bytes | bytearray | None:
        has_data = header.producer_id in self._with_data
        self._with_data.discard(header.producer_id)
        if has_data:
            return batch
        horizon = header.delete_horizon
        if horizon is None:
            body = read_body(batch, header)
            return self._rebuilt(header, body, list(spans(body, header.records)), mark=True)
        if self._now < horizon or self._is_last_of_producer(header):
            return batch
        self.removed_markers.add(header.base_offset)
        return None

    def _clean_records(self, header: BatchHeader, batch: bytes) -> bytes | bytearray | None:
        body = read_body(batch, header)
        horizon = header.delete_horizon
        tombstones_stay = horizon is None or self._now < horizon
        kept = []
        tombstone = False
        for span in spans(body, header.records):
            delta, _, key, has_value, _, _ = span
            if key is None or not (has_value or tombstones_stay):
                continue
            if self._latest.get(digest(key), -1) <= header.base_offset + delta:
                kept.append(span)
                tombstone = tombstone or not has_value
        mark = tombstone and horizon is None
        if not kept:
            return self._without_records(header, batch)
        if len(kept) == header.records and not mark:
            return batch
        return self._rebuilt(header, body, kept, mark=mark)

    def _rebuilt(self, header: BatchHeader, body: bytes, kept: list[Span], *, mark: bool) -> bytearray:
        if not header.attributes & TIMESTAMP_TYPE:
            header = header._replace(max_timestamp=max(header.base_timestamp + span[1] for span in kept))
        if mark:
            horizon = self._now + self._delete_retention
            records = b"".join(_shifted(body, span, header.base_timestamp - horizon) for span in kept)
            attributes = header.attributes | DELETE_HORIZON
            header = header._replace(base_timestamp=horizon, attributes=attributes)
        else:
            records = b"".join(varint(span[5] - span[4]) + body[span[4] : span[5]] for span in kept)
        codec = header.attributes & COMPRESSION_MASK
        return seal_batch(header._replace(records=len(kept)), pack(codec, records) if codec else records)

    def _without_records(self, header: BatchHeader, batch: bytes) -> bytes | bytearray | None:
        if not self._is_last_of_producer(header):
            return None
        if not header.records:
            return batch
        return seal_batch(header._replace(records=0, base_timestamp=header.max_timestamp), b"")

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        producer = self._producers.by_id.get(header.producer_id)
        if producer is None:
            return False
        if producer.batches:
            return producer.batches[-1].base_offset == header.base_offset
        return header.is_control and header.producer_epoch == producer.epoch


def digest(key: bytes) -> bytes:
    """Stands for a key in a map that many keys shall fit in."""
    return key if len(key) <= 16 else blake2b(key, digest_size=16).digest()


def spans(body: bytes, records: int) -> Iterator[Span]:
    """The records of an unpacked body, only as far as compaction has to know them. Raises BadBatch."""
    at = 0
    try:
        for _ in range(records):
            length, start = read_varint(body, at)
            at = start + length
            if length < 0 or at > len(body):
                raise BadBatch("a record reaches past its batch")
            timestamp_delta, position = read_varint(body, start + 1)
            offset_delta, position = read_varint(body, position)
            size, position = read_varint(body, position)
            key = body[position : position + size] if size >= 0 else None
            value_size, _ = read_varint(body, position + max(size, 0))
            yield offset_delta, timestamp_delta, key, value_size >= 0, start, at
    except IndexError:
        raise BadBatch("a record reaches past its batch") from None


def _shifted(body: bytes, span: Span, shift: int) -> bytes:
    """The record with its length, for a base timestamp that is `shift` ms earlier."""
    _, timestamp_delta, _, _, start, end = span
    _, rest = read_varint(body, start + 1)
    record = body[start : start + 1] + varint(timestamp_delta + shift) + body[rest:end]
    return varint(len(record)) + record
