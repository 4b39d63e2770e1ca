"""Produce."""

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.produce import ProducePartition, ProduceRequest, ProduceResult


def produce(broker: Broker, request: ProduceRequest) -> list[ProduceResult]:
    """Append every batch; each partition has its own result."""
    if request.acks not in (-1, 0, 1):
        return [ProduceResult(p.topic, p.partition, ErrorCode.invalid_required_acks) for p in request.partitions]
    return [_append(broker, partition) for partition in request.partitions]


def _append(broker: Broker, sent: ProducePartition) -> ProduceResult:
    try:
        topic = broker.topics.by_name.get(sent.topic) or broker.topic_for(sent.topic)
        if not 0 <= sent.partition < len(topic.partitions):
            raise Refused(ErrorCode.unknown_topic_or_partition)
        partition = topic.partitions[sent.partition]
        base_offset, timestamp = partition.append(sent.batch or memoryview(b""), topic.rules, broker.clock())
    except Refused as refused:
        return ProduceResult(sent.topic, sent.partition, refused.code, message=refused.message)
    return ProduceResult(sent.topic, sent.partition, ErrorCode.none, base_offset, timestamp, partition.log.start_offset)
