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

MAX_METADATA_BYTES = 4096


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
        partitions = []
        for wanted in topic.partitions:
            index = wanted.partition_index
            metadata = wanted.committed_metadata or ""
            entry = {"partition_index": index, "error_code": error}
            if broker.topics.partition(topic.name, index) is None:
                entry["error_code"] = ErrorCode.unknown_topic_or_partition
            elif not error and len(metadata) > MAX_METADATA_BYTES:
                entry["error_code"] = ErrorCode.offset_metadata_too_large
            elif not error:
                epoch = getattr(wanted, "committed_leader_epoch", -1)
                offsets[topic.name, index] = Committed(wanted.committed_offset, epoch, metadata, now)
                entries.append(entry)
            partitions.append(entry)
        answers.append({"name": topic.name, "partitions": partitions})
    try:
        commit(offsets)
    except Refused as refused:
        for entry in entries:
            entry["error_code"] = refused.code
    return answers


def offset_fetch(context: Context, request: Any) -> Response:
    stable = getattr(request, "require_stable", False)
    if context.version < 8:
        return _group_offsets(context.broker, request.group_id, request.topics, stable)
    groups = [
        {"group_id": group.group_id, **_group_offsets(context.broker, group.group_id, group.topics, stable)}
        for group in request.groups
    ]
    return {"groups": groups}


def _group_offsets(broker: Broker, group_id: str, topics: Iterable[Any] | None, stable: bool) -> dict[str, Any]:
    committed = broker.offsets.of(group_id)
    wanted: dict[str, list[int]] = {}
    if topics is None:
        for name, index in committed:
            wanted.setdefault(name, []).append(index)
    else:
        wanted = {topic.name: list(topic.partition_indexes) for topic in topics}

    def answer(place: TopicPartition) -> dict[str, Any]:
        if stable and broker.offsets.is_pending(group_id, place):
            return {"partition_index": place[1], "committed_offset": -1, "metadata": "",
                    "error_code": ErrorCode.unstable_offset_commit}  # fmt: skip
        known = committed.get(place)
        if known is None:
            return {"partition_index": place[1], "committed_offset": -1, "metadata": ""}
        return {
            "partition_index": place[1],
            "committed_offset": known.offset,
            "committed_leader_epoch": known.leader_epoch,
            "metadata": known.metadata,
        }

    return {
        "topics": [
            {"name": name, "partitions": [answer((name, index)) for index in indexes]}
            for name, indexes in wanted.items()
        ]
    }


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
    for topic in request.topics:
        subscribed = group.subscribes_to(topic.name)
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
