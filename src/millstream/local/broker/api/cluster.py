"""Metadata, FindCoordinator, DescribeCluster and the like: where things are. All of them are here."""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import CLUSTER_METADATA, Topic, check_name
from millstream.local.broker.wire.control import Response

BROKERS, CONTROLLERS = 1, 2
CLUSTER_OPERATIONS = 8096
TOPIC_OPERATIONS = 3576
"""What a client may do, as bits: everything, for nobody is forbidden anything."""
NOT_ASKED = -(2**31)
MAX_DESCRIBED = 2000
"""`max.request.partition.size.limit` of Apache Kafka."""


def metadata(context: Context, request: Any) -> Response:
    broker = context.broker
    wanted = request.topics
    if wanted is None or (context.version == 0 and not wanted):
        topics = [_describe_topic(topic) for topic in broker.topics.by_name.values()]
    else:
        may_create = getattr(request, "allow_auto_topic_creation", True)
        topics = [_find_topic(context, topic, may_create) for topic in wanted]
    if getattr(request, "include_topic_authorized_operations", False):
        for topic in topics:
            topic["topic_authorized_operations"] = NOT_ASKED if topic["name"] is None else TOPIC_OPERATIONS
    return {
        "brokers": [_this_broker(broker)],
        "cluster_id": broker.cluster_id,
        "controller_id": NODE_ID,
        "topics": topics,
        "cluster_authorized_operations": _cluster_operations(request),
    }


def find_coordinator(context: Context, request: Any) -> Response:
    broker = context.broker
    answer = {"node_id": NODE_ID, "host": broker.host, "port": broker.port, "error_message": ""}
    if getattr(request, "key_type", 0) not in (0, 1):
        reason = "groups and transactions are coordinated here"
        answer = {"error_code": ErrorCode.invalid_request, "error_message": reason, "node_id": -1, "port": -1}
    if context.version >= 4:
        return {"coordinators": [{"key": key, **answer} for key in request.coordinator_keys]}
    return answer


def describe_cluster(context: Context, request: Any) -> Response:
    broker = context.broker
    endpoint = getattr(request, "endpoint_type", BROKERS)
    if endpoint != BROKERS:
        error = ErrorCode.mismatched_endpoint_type if endpoint == CONTROLLERS else ErrorCode.unsupported_endpoint_type
        reason = f"this endpoint serves brokers (type {BROKERS}), not type {endpoint}"
        nothing = {"controller_id": -1, "endpoint_type": BROKERS, "cluster_authorized_operations": NOT_ASKED}
        return {"error_code": error, "error_message": reason, **nothing}
    return {
        "error_message": None,
        "endpoint_type": BROKERS,
        "cluster_id": broker.cluster_id,
        "controller_id": NODE_ID,
        "brokers": [{**_this_broker(broker), "broker_id": NODE_ID}],
        "cluster_authorized_operations": _cluster_operations(request),
    }


def describe_topic_partitions(context: Context, request: Any) -> Response:
    """In pages: `next_cursor` says where the next one begins."""
    topics = context.broker.topics
    names = sorted({topic.name for topic in request.topics} or topics.by_name)
    cursor = request.cursor
    begin = 0
    if cursor is not None:
        names = [name for name in names if name >= cursor.topic_name]
        begin = cursor.partition_index if cursor.topic_name in names else 0
    left = min(max(request.response_partition_limit, 1), MAX_DESCRIBED)
    described = []
    for name in names:
        if not left:
            return {"topics": described, "next_cursor": {"topic_name": name, "partition_index": 0}}
        topic = {**_find_named(context, name), "topic_authorized_operations": TOPIC_OPERATIONS}
        partitions = topic.get("partitions", [])
        topic["partitions"] = partitions[begin : begin + left]
        described.append(topic)
        if begin + left < len(partitions):
            return {"topics": described, "next_cursor": {"topic_name": name, "partition_index": begin + left}}
        left -= len(topic["partitions"])
        begin = 0
    return {"topics": described, "next_cursor": None}


def describe_quorum(context: Context, request: Any) -> Response:
    """One broker that keeps no metadata log has no quorum."""
    return {"error_code": ErrorCode.unsupported_version, "error_message": "the local broker has no quorum"}


def update_features(context: Context, request: Any) -> Response:
    for update in request.feature_updates:
        reason = f"the local broker has no feature {update.feature} to change"
        return {"error_code": ErrorCode.invalid_update_version, "error_message": reason}
    return {"error_message": None}


def _cluster_operations(request: Any) -> int:
    return CLUSTER_OPERATIONS if getattr(request, "include_cluster_authorized_operations", False) else NOT_ASKED


def _this_broker(broker: Broker) -> dict[str, Any]:
    return {"node_id": NODE_ID, "host": broker.host, "port": broker.port}


def _find_topic(context: Context, wanted: Any, may_create: bool) -> dict[str, Any]:
    broker = context.broker
    topic_id = getattr(wanted, "topic_id", None)
    if wanted.name is None:
        if context.version < 12 or topic_id is None:
            return {"error_code": ErrorCode.invalid_request, "name": ""}
        topic = broker.topics.by_id.get(topic_id)
        if topic is None:
            return {"error_code": ErrorCode.unknown_topic_id, "name": None, "topic_id": topic_id}
        return _describe_topic(topic)
    return _find_named(context, wanted.name, may_create)


def _find_named(context: Context, name: str, may_create: bool = False) -> dict[str, Any]:
    topics = context.broker.topics
    if name == CLUSTER_METADATA:
        return {"error_code": ErrorCode.unknown_topic_or_partition, "name": name}
    try:
        check_name(name)
        return _describe_topic(context.broker.topic_for(name) if may_create else topics.get(name))
    except Refused as refused:
        return {"error_code": refused.code, "name": name}


def _describe_topic(topic: Topic) -> dict[str, Any]:
    partitions = [
        {
            "partition_index": partition.index,
            "leader_id": NODE_ID,
            "leader_epoch": 0,
            "replica_nodes": (NODE_ID,),
            "isr_nodes": (NODE_ID,),
            "eligible_leader_replicas": (),
            "last_known_elr": (),
        }
        for partition in topic.partitions
    ]
    return {"name": topic.name, "topic_id": topic.id, "partitions": partitions}
