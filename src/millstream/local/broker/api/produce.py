"""Produce."""

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.batch import HEADER_SIZE, TRANSACTIONAL
from millstream.local.broker.wire.produce import ProducePartition, ProduceRequest, ProduceResult

LOW_FLAGS = 22
"""The byte of a batch's header with the lower half of its attributes."""


FIRST_TO_KNOW_ABORTABLE = 11


def produce(broker: Broker, version: int, request: ProduceRequest) -> list[ProduceResult]:
    """Append every batch; each partition has its own result."""
    if request.acks not in (-1, 0, 1):
        return [ProduceResult(p.topic, p.partition, ErrorCode.invalid_required_acks) for p in request.partitions]
    if request.transactional_id is None and any(map(_is_transactional, request.partitions)):
        refused = ErrorCode.transactional_id_authorization_failed
        return [ProduceResult(p.topic, p.partition, refused) for p in request.partitions]
    return [_append(broker, version, partition) for partition in request.partitions]


def _append(broker: Broker, version: int, sent: ProducePartition) -> ProduceResult:
    try:
        topic = broker.topics.get(sent.topic)
        if not 0 <= sent.partition < len(topic.partitions):
            raise Refused(ErrorCode.unknown_topic_or_partition)
        partition = topic.partitions[sent.partition]
        base_offset, timestamp = partition.append(sent.batch or memoryview(b""), topic.rules, broker.clock())
    except Refused as refused:
        code = refused.code
        if code is ErrorCode.transaction_abortable and version < FIRST_TO_KNOW_ABORTABLE:
            code = ErrorCode.invalid_txn_state
        return ProduceResult(sent.topic, sent.partition, code, message=refused.message, record_errors=refused.records)
    return ProduceResult(sent.topic, sent.partition, ErrorCode.none, base_offset, timestamp, partition.log.start_offset)


def _is_transactional(sent: ProducePartition) -> bool:
    return sent.batch is not None and len(sent.batch) >= HEADER_SIZE and bool(sent.batch[LOW_FLAGS] & TRANSACTIONAL)
