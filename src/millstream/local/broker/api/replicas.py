"""Log directories, reassignments and elections: there is one directory, one replica, one leader."""

import os
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.api.topics import check_replicas
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.topics import Topic
from millstream.local.broker.wire.control import Response

ELECTION_TYPES = (0, 1)


def describe_log_dirs(context: Context, request: Any) -> Response:
    topics = context.broker.topics
    if request.topics is None:
        wanted = [(topic, range(len(topic.partitions))) for topic in topics.by_name.values()]
    else:
        wanted = [(topics.by_name[t.topic], t.partitions) for t in request.topics if t.topic in topics.by_name]
    described = [{"name": topic.name, "partitions": _sizes(topic, indexes)} for topic, indexes in wanted]
    disk = os.statvfs(context.broker.data)
    total, usable = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    here = {"log_dir": str(context.broker.data), "total_bytes": total, "usable_bytes": usable}
    return {"results": [{**here, "topics": [topic for topic in described if topic["partitions"]]}]}


def alter_replica_log_dirs(context: Context, request: Any) -> Response:
    """To move a replica to where it lies is all that can be asked."""
    here = str(context.broker.data)
    results = []
    for target in request.dirs:
        for topic in target.topics:
            partitions = []
            for index in topic.partitions:
                known = context.broker.topics.partition(topic.name, index) is not None
                error = ErrorCode.none if known else ErrorCode.replica_not_available
                if target.path != here:
                    error = ErrorCode.log_dir_not_found
                partitions.append({"partition_index": index, "error_code": error})
            results.append({"topic_name": topic.name, "partitions": partitions})
    return {"results": results}


def alter_partition_reassignments(context: Context, request: Any) -> Response:
    responses = []
    for topic in request.topics:
        partitions = []
        for wanted in topic.partitions:
            partition: dict[str, Any] = {"partition_index": wanted.partition_index, "error_message": None}
            try:
                _check_partition(context.broker, topic.name, wanted.partition_index)
                if wanted.replicas is None:
                    raise Refused(ErrorCode.no_reassignment_in_progress)
                check_replicas(wanted.replicas)
            except Refused as refused:
                partition |= {"error_code": refused.code, "error_message": refused.message}
            partitions.append(partition)
        responses.append({"name": topic.name, "partitions": partitions})
    return {"responses": responses, "error_message": None}


def list_partition_reassignments(context: Context, request: Any) -> Response:
    return {"topics": (), "error_message": None}


def elect_leaders(context: Context, request: Any) -> Response:
    kind = getattr(request, "election_type", 0)
    known = kind in ELECTION_TYPES
    results = []
    # Asked about all topics, Apache Kafka names them, but none of the partitions that need no election.
    for topic in request.topic_partitions or ():
        partitions = []
        for index in topic.partitions:
            try:
                if not known:
                    raise Refused(ErrorCode.invalid_request, f"Unknown election type {kind}")
                _check_partition(context.broker, topic.topic, index)
                raise Refused(ErrorCode.election_not_needed, "Leader election not needed for topic partition.")
            except Refused as refused:
                error = {"error_code": refused.code, "error_message": refused.message}
                partitions.append({"partition_id": index, **error})
        results.append({"topic": topic.topic, "partition_result": partitions})
    error = ErrorCode.none if known else ErrorCode.invalid_request
    return {"error_code": error, "replica_election_results": results}


def _sizes(topic: Topic, indexes: Any) -> list[dict[str, Any]]:
    found = [topic.partitions[index] for index in indexes if 0 <= index < len(topic.partitions)]
    return [
        {"partition_index": partition.index, "partition_size": sum(segment.size for segment in partition.log.segments)}
        for partition in found
    ]


def _check_partition(broker: Broker, topic: str, index: int) -> None:
    if broker.topics.partition(topic, index) is None:
        raise Refused(ErrorCode.unknown_topic_or_partition, f"Unable to find partition {topic}:{index}.")
