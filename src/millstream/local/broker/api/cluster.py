"""ApiVersions, Metadata, FindCoordinator, DescribeCluster: where things are. All of them are here."""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import Topic
from millstream.local.broker.wire.control import Response


def metadata(context: Context, request: Any) -> Response:
    broker = context.broker
    wanted = request.topics
    if wanted is None or (context.version == 0 and not wanted):
        topics = [_describe_topic(topic) for topic in broker.topics.by_name.values()]
    else:
        may_create = getattr(request, "allow_auto_topic_creation", True)
        topics = [_find_topic(context, topic, may_create) for topic in wanted]
    return {
        "brokers": [_this_broker(broker)],
        "cluster_id": broker.cluster_id,
        "controller_id": NODE_ID,
        "topics": topics,
    }


def find_coordinator(context: Context, request: Any) -> Response:
    broker = context.broker
    here = {"node_id": NODE_ID, "host": broker.host, "port": broker.port}
    if getattr(request, "key_type", 0) not in (0, 1):
        refusal = {
            "error_code": ErrorCode.invalid_request,
            "error_message": "groups and transactions are coordinated here",
        }
        keys = getattr(request, "coordinator_keys", ())
        return {**refusal, "node_id": -1, "port": -1, "coordinators": [{"key": k, **refusal} for k in keys]}
    if context.version >= 4:
        return {"coordinators": [{"key": key, **here} for key in request.coordinator_keys]}
    return here


def describe_cluster(context: Context, request: Any) -> Response:
    broker = context.broker
    if getattr(request, "endpoint_type", 1) != 1:
        return {"error_code": ErrorCode.unsupported_endpoint_type, "endpoint_type": request.endpoint_type}
    brokers = [{**_this_broker(broker), "broker_id": NODE_ID}]
    return {"cluster_id": broker.cluster_id, "controller_id": NODE_ID, "brokers": brokers}


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
    try:
        return _describe_topic(broker.topic_for(wanted.name) if may_create else broker.topics.get(wanted.name))
    except Refused as refused:
        return {"error_code": refused.code, "name": wanted.name}


def _describe_topic(topic: Topic) -> dict[str, Any]:
    partitions = [
        {
            "partition_index": partition.index,
            "leader_id": NODE_ID,
            "leader_epoch": 0,
            "replica_nodes": (NODE_ID,),
            "isr_nodes": (NODE_ID,),
        }
        for partition in topic.partitions
    ]
    return {"name": topic.name, "topic_id": topic.id, "partitions": partitions}
