"""CreateTopics, DeleteTopics, CreatePartitions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.configs import describe_topic_configs
from millstream.local.broker.api.context import Context
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import Topic
from millstream.local.broker.wire.control import Response

DEFAULT_PARTITIONS = 1


def create_topics(context: Context, request: Any) -> Response:
    times = Counter(topic.name for topic in request.topics)
    results = []
    for wanted in {topic.name: topic for topic in request.topics}.values():
        try:
            if times[wanted.name] > 1:
                raise Refused(ErrorCode.invalid_request, "Duplicate topic name.")
            results.append(_create(context.broker, wanted, request.validate_only))
        except Refused as refused:
            error = {"error_code": refused.code, "error_message": refused.message}
            nothing = {"num_partitions": -1, "replication_factor": -1, "configs": ()}
            results.append({"name": wanted.name, **error, **nothing})
    return {"topics": results}


def delete_topics(context: Context, request: Any) -> Response:
    if context.version >= 6:
        wanted = [(topic.name, topic.topic_id) for topic in request.topics]
    else:
        wanted = [(name, None) for name in request.topic_names]
    results = []
    doomed: dict[Topic, list[tuple[str | None, UUID | None]]] = {}
    for name, topic_id in wanted:
        try:
            doomed.setdefault(_find(context.broker, name, topic_id), []).append((name, topic_id))
        except Refused as refused:
            error = {"error_code": refused.code, "error_message": refused.message}
            results.append({"name": name, "topic_id": topic_id, **error})
    for topic, named in doomed.items():
        try:
            if len(named) > 1:
                raise Refused(ErrorCode.invalid_request, "The same topic is named more than once.")
            context.broker.topics.delete(topic.name)
            results.append({"name": topic.name, "topic_id": topic.id})
        except Refused as refused:
            name, topic_id = named[0]
            error = {"error_code": refused.code, "error_message": refused.message}
            results.append({"name": name, "topic_id": topic_id, **error})
    context.broker.checkpoint()
    return {"responses": results}


def create_partitions(context: Context, request: Any) -> Response:
    times = Counter(topic.name for topic in request.topics)
    results = []
    for wanted in {topic.name: topic for topic in request.topics}.values():
        result: dict[str, Any] = {"name": wanted.name, "error_message": None}
        try:
            if times[wanted.name] > 1:
                raise Refused(ErrorCode.invalid_request, "Duplicate topic name.")
            _add_partitions(context.broker, wanted, request.validate_only)
        except Refused as refused:
            result |= {"error_code": refused.code, "error_message": refused.message}
        results.append(result)
    return {"results": results}


def check_replicas(brokers: Sequence[int]) -> None:
    """Raises Refused unless these are the replicas that a partition can have here: this broker."""
    if not brokers:
        reason = "The manual partition assignment includes an empty replica list."
    elif strangers := [broker for broker in brokers if broker != NODE_ID]:
        reason = f"The manual partition assignment includes broker {strangers[0]}, but no such broker is registered."
    elif len(brokers) > 1:
        reason = f"The manual partition assignment includes the broker {NODE_ID} more than once."
    else:
        return
    raise Refused(ErrorCode.invalid_replica_assignment, reason)


def _create(broker: Broker, wanted: Any, validate_only: bool) -> dict[str, Any]:
    partitions = _count_assigned(wanted) if wanted.assignments else wanted.num_partitions
    if partitions == -1:
        partitions = broker.options.auto_create_partitions or DEFAULT_PARTITIONS
    if wanted.replication_factor not in (-1, 1):
        reason = f"Unable to replicate the partition {wanted.replication_factor} time(s): this is the only broker."
        raise Refused(ErrorCode.invalid_replication_factor, reason)
    configs: dict[str, str] = {}
    for config in wanted.configs:
        if config.value is None:
            raise Refused(ErrorCode.invalid_config, f"Null value not supported for topic configs: {config.name}")
        configs[config.name] = config.value
    topic = broker.topics.create(wanted.name, partitions, configs, validate_only=validate_only)
    return {
        "name": wanted.name,
        "topic_id": topic.id,
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": describe_topic_configs(topic, broker.cluster_defaults),
        "error_message": None,
    }


def _count_assigned(wanted: Any) -> int:
    if wanted.num_partitions != -1:
        reason = "A manual partition assignment was specified, but numPartitions was not set to -1."
        raise Refused(ErrorCode.invalid_request, reason)
    if wanted.replication_factor != -1:
        reason = "A manual partition assignment was specified, but replication factor was not set to -1."
        raise Refused(ErrorCode.invalid_request, reason)
    for assignment in wanted.assignments:
        check_replicas(assignment.broker_ids)
    if sorted(assignment.partition_index for assignment in wanted.assignments) != list(range(len(wanted.assignments))):
        reason = "partitions should be a consecutive 0-based integer sequence"
        raise Refused(ErrorCode.invalid_replica_assignment, reason)
    return len(wanted.assignments)


def _find(broker: Broker, name: str | None, topic_id: UUID | None) -> Topic:
    if name is not None and topic_id is not None:
        raise Refused(ErrorCode.invalid_request, "You may not specify both topic name and topic id.")
    if name is not None:
        return broker.topics.get(name)
    if topic_id is None:
        raise Refused(ErrorCode.invalid_request, "Neither topic name nor id were specified.")
    topic = broker.topics.by_id.get(topic_id)
    if topic is None:
        raise Refused(ErrorCode.unknown_topic_id, "This server does not host this topic ID.")
    return topic


def _add_partitions(broker: Broker, wanted: Any, validate_only: bool) -> None:
    added = wanted.count - len(broker.topics.get(wanted.name).partitions)
    if wanted.assignments is not None and added > 0:
        for assignment in wanted.assignments:
            check_replicas(assignment.broker_ids)
        if len(wanted.assignments) != added:
            given = len(wanted.assignments)
            reason = f"Attempted to add {added} additional partition(s), but only {given} assignment(s) were specified."
            raise Refused(ErrorCode.invalid_replica_assignment, reason)
    broker.topics.add_partitions(wanted.name, wanted.count, validate_only=validate_only)
