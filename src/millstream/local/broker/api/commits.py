"""OffsetCommit, OffsetFetch, OffsetDelete: the committed offsets of groups."""

from collections.abc import Callable, Iterable
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.coordinator.group import GroupState
from millstream.local.broker.coordinator.offsets import Committed, TopicPartition
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.control import Response

MAX_METADATA_UNITS = 4096
"""`offset.metadata.max.bytes` of Apache Kafka, which counts what Java calls characters: the units of UTF-16."""


def offset_commit(context: Context, request: Any) -> Response:
    generation = getattr(request, "generation_id_or_member_epoch", getattr(request, "generation_id", -1))
    error = context.broker.groups.check_commit(
        request.group_id, generation, request.member_id, getattr(request, "group_instance_id", None)
    )
    if error is ErrorCode.group_id_not_found and context.version < 9:
        error = ErrorCode.illegal_generation

    def commit(offsets: dict[TopicPartition, Committed]) -> None:
        context.broker.offsets.commit(request.group_id, offsets)

    return {"topics": commit_each(context.broker, request.topics, error, commit)}


def commit_each(
    broker: Broker, topics: Iterable[Any], error: ErrorCode, commit: Callable[[dict[TopicPartition, Committed]], None]
) -> list[dict[str, Any]]:
    """Commit what may be committed; every partition of the request has its entry in the answer."""
    now = broker.clock()
    offsets: dict[TopicPartition, Committed] = {}
    entries = []
    answers = []
    for topic in topics:
        name, identity = _identified(broker, topic)
        partitions = []
        for wanted in topic.partitions:
            index = wanted.partition_index
            metadata = wanted.committed_metadata or ""
            entry = {"partition_index": index, "error_code": error}
            if name is None:
                entry["error_code"] = ErrorCode.unknown_topic_id
            elif broker.topics.partition(name, index) is None:
                entry["error_code"] = ErrorCode.unknown_topic_or_partition
            elif not error and _utf16_units(metadata) > MAX_METADATA_UNITS:
                entry["error_code"] = ErrorCode.offset_metadata_too_large
            elif not error:
                epoch = getattr(wanted, "committed_leader_epoch", -1)
                offsets[name, index] = Committed(wanted.committed_offset, epoch, metadata, now)
                entries.append(entry)
            partitions.append(entry)
        answers.append({**identity, "partitions": partitions})
    try:
        commit(offsets)
    except Refused as refused:
        for entry in entries:
            entry["error_code"] = refused.code
    return answers


def _utf16_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _identified(broker: Broker, topic: Any) -> tuple[str | None, dict[str, Any]]:
    """The name of the topic that a request speaks of, None if it has an id that is not known; and what stands for it
    in the answer. From version 10 on topics have their ids, so that offsets never reach the next topic of that
    name."""
    if hasattr(topic, "name"):
        return topic.name, {"name": topic.name}
    known = broker.topics.by_id.get(topic.topic_id)
    return known.name if known is not None else None, {"topic_id": topic.topic_id}


def offset_fetch(context: Context, request: Any) -> Response:
    stable = getattr(request, "require_stable", False)
    if context.version < 8:
        return {"topics": _group_offsets(context, request.group_id, request.topics, stable)}
    groups = [
        {"group_id": group.group_id, "topics": _group_offsets(context, group.group_id, group.topics, stable)}
        for group in request.groups
    ]
    return {"groups": groups}


def _group_offsets(context: Context, group_id: str, topics: Iterable[Any] | None, stable: bool) -> list[dict[str, Any]]:
    broker = context.broker
    committed = broker.offsets.of(group_id)
    if topics is None:
        indexes: dict[str, list[int]] = {}
        for name, index in committed:
            indexes.setdefault(name, []).append(index)
        wanted = [(name, _identity(context, name), partitions) for name, partitions in indexes.items()]
    else:
        wanted = [(*_identified(broker, topic), topic.partition_indexes) for topic in topics]

    def answer(name: str | None, index: int) -> dict[str, Any]:
        nothing = {"partition_index": index, "committed_offset": -1, "metadata": ""}
        if name is None:
            return {**nothing, "error_code": ErrorCode.unknown_topic_id}
        if stable and broker.offsets.is_pending(group_id, (name, index)):
            return {**nothing, "error_code": ErrorCode.unstable_offset_commit}
        known = committed.get((name, index))
        if known is None:
            return nothing
        return {
            "partition_index": index,
            "committed_offset": known.offset,
            "committed_leader_epoch": known.leader_epoch,
            "metadata": known.metadata,
        }

    return [
        {**identity, "partitions": [answer(name, index) for index in partitions]}
        for name, identity, partitions in wanted
    ]


def _identity(context: Context, topic: str) -> dict[str, Any]:
    return {"topic_id": context.broker.topics.by_name[topic].id} if context.version >= 10 else {"name": topic}


def offset_delete(context: Context, request: Any) -> Response:
    broker = context.broker
    group = broker.groups.by_id.get(request.group_id)
    if not request.group_id:
        return {"error_code": ErrorCode.invalid_group_id}
    if group is None:
        return {"error_code": ErrorCode.group_id_not_found}
    if group.state is not GroupState.EMPTY and group.protocol_type != "consumer":
        return {"error_code": ErrorCode.non_empty_group}
    gone = []
    topics = []
    read = group.topics_read()
    for topic in request.topics:
        subscribed = read is None or topic.name in read
        partitions = []
        for partition in topic.partitions:
            place = (topic.name, partition.partition_index)
            error = ErrorCode.group_subscribed_to_topic if subscribed else ErrorCode.none
            if broker.topics.partition(*place) is None:
                error = ErrorCode.unknown_topic_or_partition
            if not error:
                gone.append(place)
            partitions.append({"partition_index": partition.partition_index, "error_code": error})
        topics.append({"name": topic.name, "partitions": partitions})
    try:
        broker.offsets.delete(request.group_id, gone)
    except Refused as refused:
        return {"error_code": refused.code}
    return {"topics": topics}
