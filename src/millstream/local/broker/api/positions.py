"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords: offsets within the logs."""

from collections import Counter
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.partition import Partition
from millstream.local.broker.wire.control import Response

SPECIAL_SINCE = {-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11}
"""Timestamps with a meaning of their own, and the version that has brought each."""


def list_offsets(context: Context, request: Any) -> Response:
    committed = getattr(request, "isolation_level", 0) == 1
    times = Counter((topic.name, wanted.partition_index) for topic in request.topics for wanted in topic.partitions)

    def answer(topic: str, wanted: Any) -> dict[str, Any]:
        partition = _partition(context.broker, topic, wanted.partition_index)
        if times[topic, wanted.partition_index] > 1:
            raise Refused(ErrorCode.invalid_request)
        if getattr(wanted, "current_leader_epoch", -1) > 0:
            raise Refused(ErrorCode.unknown_leader_epoch)
        if wanted.timestamp < 0 and context.version < SPECIAL_SINCE.get(wanted.timestamp, 2**15):
            raise Refused(ErrorCode.unsupported_version)
        offset, timestamp = _find_offset(partition, wanted.timestamp, committed)
        return {"offset": offset, "timestamp": timestamp, "leader_epoch": 0 if offset >= 0 else -1}

    return {"topics": [_each(topic.name, topic.partitions, answer) for topic in request.topics]}


def offset_for_leader_epoch(context: Context, request: Any) -> Response:
    def answer(topic: str, wanted: Any) -> dict[str, Any]:
        partition = _partition(context.broker, topic, wanted.partition)
        if wanted.current_leader_epoch > 0:
            raise Refused(ErrorCode.unknown_leader_epoch)
        if wanted.leader_epoch != 0:
            return {"leader_epoch": -1, "end_offset": -1}
        return {"leader_epoch": 0, "end_offset": partition.log.end_offset}

    topics = [{"topic": t.topic, **_each(t.topic, t.partitions, answer)} for t in request.topics]
    return {"topics": topics}


def delete_records(context: Context, request: Any) -> Response:
    def answer(topic: str, wanted: Any) -> dict[str, Any]:
        partition = _partition(context.broker, topic, wanted.partition_index)
        log = partition.log
        policy = context.broker.topics.get(topic).config("cleanup.policy")
        if "compact" in policy and "delete" not in policy:
            raise Refused(ErrorCode.policy_violation)
        offset = log.end_offset if wanted.offset == -1 else wanted.offset
        if not 0 <= offset <= log.end_offset:
            raise Refused(ErrorCode.offset_out_of_range)
        partition.delete_records(offset)
        return {"low_watermark": log.start_offset}

    topics = [_each(topic.name, topic.partitions, answer) for topic in request.topics]
    context.broker.checkpoint()
    return {"topics": topics}


_NOWHERE = {"low_watermark": -1, "offset": -1, "timestamp": -1, "leader_epoch": -1, "end_offset": -1}


def _find_offset(partition: Partition, timestamp: int, committed: bool) -> tuple[int, int]:
    log = partition.log
    limit = partition.stable_offset if committed else log.end_offset
    match timestamp:
        case -1:
            return limit, -1
        case -2 | -4:
            return log.start_offset, -1
        case -3:
            found = log.newest()
        case -5 | -6:  # what has been copied to a remote tier, or is about to be
            found = None
        case _:
            found = log.first_since(timestamp)
    return found if found is not None and found[0] < limit else (-1, -1)


def _partition(broker: Broker, topic: str, index: int) -> Partition:
    partition = broker.topics.partition(topic, index)
    if partition is None:
        raise Refused(ErrorCode.unknown_topic_or_partition)
    return partition


def _each(topic: str, wanted: Any, answer: Any) -> dict[str, Any]:
    """One entry for each wanted partition: what `answer` says, or why it refused."""
    entries = []
    for partition in wanted:
        index = getattr(partition, "partition_index", getattr(partition, "partition", -1))
        entry = {"partition_index": index, "partition": index, "error_code": ErrorCode.none}
        try:
            entry |= answer(topic, partition)
        except Refused as refused:
            entry |= {"error_code": refused.code, **_NOWHERE}
        entries.append(entry)
    return {"name": topic, "partitions": entries}
