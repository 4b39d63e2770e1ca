"""CreateTopics, DeleteTopics, CreatePartitions."""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.configs import describe_topic_configs
from millstream.local.broker.api.context import Context
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.control import Response

DEFAULT_PARTITIONS = 1


def create_topics(context: Context, request: Any) -> Response:
    names = [topic.name for topic in request.topics]
    results = []
    for wanted in request.topics:
        try:
            if names.count(wanted.name) > 1:
                raise Refused(ErrorCode.invalid_request, f"topic {wanted.name} is asked for twice")
            results.append(_create(context.broker, wanted, request.validate_only))
        except Refused as refused:
            error = {"error_code": refused.code, "error_message": refused.message}
            results.append({"name": wanted.name, **error, "configs": ()})
    return {"topics": results}


def delete_topics(context: Context, request: Any) -> Response:
    if context.version >= 6:
        results = [_delete(context.broker, wanted.name, wanted.topic_id) for wanted in request.topics]
    else:
        results = [_delete(context.broker, name, None) for name in request.topic_names]
    context.broker.checkpoint()
    return {"responses": results}


def create_partitions(context: Context, request: Any) -> Response:
    results = []
    for wanted in request.topics:
        result: dict[str, Any] = {"name": wanted.name}
        try:
            if wanted.assignments is not None:
                _check_assignments([assignment.broker_ids for assignment in wanted.assignments])
            context.broker.topics.add_partitions(wanted.name, wanted.count, validate_only=request.validate_only)
        except Refused as refused:
            result |= {"error_code": refused.code, "error_message": refused.message}
        results.append(result)
    return {"results": results}


def _create(broker: Broker, wanted: Any, validate_only: bool) -> dict[str, Any]:
    partitions, replicas = wanted.num_partitions, wanted.replication_factor
    if wanted.assignments:
        if partitions != -1 or replicas != -1:
            raise Refused(ErrorCode.invalid_request, "either assignments or a count and a replication factor")
        _check_assignments([assignment.broker_ids for assignment in wanted.assignments])
        partitions, replicas = len(wanted.assignments), 1
    if partitions == -1:
        partitions = DEFAULT_PARTITIONS
    if replicas not in (-1, 1):
        raise Refused(
            ErrorCode.invalid_replication_factor, f"replication factor {replicas}, and this is the only broker"
        )
    configs = {config.name: config.value for config in wanted.configs}
    topic = broker.topics.create(wanted.name, partitions, configs, validate_only=validate_only)
    return {
        "name": wanted.name,
        "topic_id": topic.id if topic else None,
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": describe_topic_configs(topic) if topic else (),
        "error_message": None,
    }


def _delete(broker: Broker, name: str | None, topic_id: Any) -> dict[str, Any]:
    if name is None:
        topic = broker.topics.by_id.get(topic_id)
        if topic is None:
            return {"name": None, "topic_id": topic_id, "error_code": ErrorCode.unknown_topic_id}
        name = topic.name
    try:
        broker.topics.delete(name)
    except Refused as refused:
        return {"name": name, "error_code": refused.code, "error_message": refused.message}
    return {"name": name, "topic_id": topic_id}


def _check_assignments(assignments: list[Any]) -> None:
    if any(tuple(brokers) != (NODE_ID,) for brokers in assignments):
        raise Refused(ErrorCode.invalid_replica_assignment, f"every partition lies on broker {NODE_ID}")
