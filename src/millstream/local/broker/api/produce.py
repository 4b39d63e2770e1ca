"""Produce."""

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.produce import ProducePartition, ProduceRequest, ProduceResult


def produce(broker: Broker, request: ProduceRequest) -> list[ProduceResult]:
    """Append every batch; each partition has its own result."""
    if request.acks not in (-1, 0, 1):
        return [ProduceResult(p.topic, p.partition, ErrorCode.invalid_required_acks) for p in request.partitions]
    return [_append(broker, partition, request.acks) for partition in request.partitions]


def _append(broker: Broker, sent: ProducePartition, acks: int) -> ProduceResult:
    try:
        topic = broker.topics.get(sent.topic)
        if not 0 <= sent.partition < len(topic.partitions):
            raise Refused(ErrorCode.unknown_topic_or_partition)
        if acks == -1 and topic.min_insync > 1:
            raise Refused(ErrorCode.not_enough_replicas, f"1 replica, min.insync.replicas is {topic.min_insync}")
        partition = topic.partitions[sent.partition]
        base_offset, timestamp = partition.append(sent.batch or memoryview(b""), topic.rules, broker.clock())
    except Refused as refused:
        return ProduceResult(sent.topic, sent.partition, refused.code, message=refused.message)
    return ProduceResult(sent.topic, sent.partition, ErrorCode.none, base_offset, timestamp, partition.log.start_offset)
