"""DescribeTransactions, ListTransactions, DescribeProducers, WriteTxnMarkers: for administrators."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.coordinator.offsets import TopicPartition
from millstream.local.broker.coordinator.transactions import State, Transaction
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.producers import Producer
from millstream.local.broker.wire.control import Response

OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def describe_transactions(context: Context, request: Any) -> Response:
    transactions = context.broker.transactions.by_id
    return {"transaction_states": [_describe(name, transactions.get(name)) for name in request.transactional_ids]}


def list_transactions(context: Context, request: Any) -> Response:
    known = {state.value for state in State}
    unknown = [state for state in request.state_filters if state not in known]
    try:
        pattern = re.compile(getattr(request, "transactional_id_pattern", None) or ".*")
    except re.error:
        return {"error_code": ErrorCode.invalid_regular_expression}
    longer_than = getattr(request, "duration_filter", -1)
    now = context.broker.clock()
    listed = [
        {
            "transactional_id": transaction.id,
            "producer_id": transaction.producer_id,
            "transaction_state": transaction.state,
        }
        for transaction in context.broker.transactions.by_id.values()
        if (not request.state_filters or transaction.state in request.state_filters)
        and (not request.producer_id_filters or transaction.producer_id in request.producer_id_filters)
        and (longer_than < 0 or now - transaction.started_at > longer_than)
        and pattern.fullmatch(transaction.id)
    ]
    return {"unknown_state_filters": unknown, "transaction_states": listed}


def describe_producers(context: Context, request: Any) -> Response:
    topics = [
        {
            "name": topic.name,
            "partitions": [
                _describe_partition(context.broker, (topic.name, index)) for index in topic.partition_indexes
            ],
        }
        for topic in request.topics
    ]
    return {"topics": topics}


def write_txn_markers(context: Context, request: Any) -> Response:
    """End a transaction in single partitions: how an administrator frees one that hangs there."""
    markers = []
    for marker in request.markers:
        topics = []
        for topic in marker.topics:
            places = [(topic.name, index) for index in topic.partition_indexes]
            partitions = [
                {"partition_index": place[1], "error_code": _write_marker(context.broker, place, marker)}
                for place in places
            ]
            topics.append({"name": topic.name, "partitions": partitions})
        markers.append({"producer_id": marker.producer_id, "topics": topics})
    return {"markers": markers}


def _describe(name: str, transaction: Transaction | None) -> dict[str, Any]:
    if transaction is None:
        error = ErrorCode.transactional_id_not_found if name else ErrorCode.invalid_request
        return {"transactional_id": name, "error_code": error, "transaction_start_time": _EPOCH}
    places = [*transaction.partitions, *((OFFSETS_TOPIC, offsets_partition(group)) for group in transaction.groups)]
    topics: dict[str, list[int]] = {}
    for topic, index in places:
        topics.setdefault(topic, []).append(index)
    return {
        "transactional_id": name,
        "transaction_state": transaction.state,
        "transaction_timeout": transaction.timeout,
        "transaction_start_time": _EPOCH + timedelta(milliseconds=transaction.started_at),
        "producer_id": transaction.producer_id,
        "producer_epoch": transaction.epoch,
        "topics": [{"topic": topic, "partitions": indexes} for topic, indexes in topics.items()],
    }


def offsets_partition(group: str) -> int:
    """Where Apache Kafka would keep the group's offsets, by Java's hash of the name.

    >>> offsets_partition("payments")
    13
    """
    hashed = 0
    for unit in _utf16(group):
        hashed = (hashed * 31 + unit) & 0xFFFFFFFF
    return (hashed & 0x7FFFFFFF if hashed != 1 << 31 else 0) % OFFSETS_PARTITIONS


def _utf16(text: str) -> Iterable[int]:
    data = text.encode("utf-16-be")
    return (data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))


def _describe_partition(broker: Broker, place: TopicPartition) -> dict[str, Any]:
    partition = broker.topics.partition(*place)
    if partition is None:
        error = ErrorCode.unknown_topic_or_partition
        message = "This server does not host this topic-partition."
        return {"partition_index": place[1], "error_code": error, "error_message": message}
    producers = [_describe_producer(pid, producer) for pid, producer in partition.producers.by_id.items()]
    return {"partition_index": place[1], "active_producers": producers}


def _describe_producer(producer_id: int, producer: Producer) -> dict[str, Any]:
    return {
        "producer_id": producer_id,
        "producer_epoch": producer.epoch,
        "last_sequence": producer.batches[-1].last_sequence if producer.batches else -1,
        "last_timestamp": producer.last_timestamp,
        "coordinator_epoch": 0 if producer.has_ended else -1,
        "current_txn_start_offset": -1 if producer.open_from is None else producer.open_from,
    }


def _write_marker(broker: Broker, place: TopicPartition, marker: Any) -> ErrorCode:
    partition = broker.topics.partition(*place)
    if partition is None:
        return ErrorCode.unknown_topic_or_partition
    producer = partition.producers.by_id.get(marker.producer_id)
    if producer is not None and marker.producer_epoch < producer.epoch:
        return ErrorCode.invalid_producer_epoch
    rules = broker.topics.by_name[place[0]].rules
    try:
        partition.end_transaction(
            marker.producer_id, marker.producer_epoch, commit=marker.transaction_result, now=broker.clock(), rules=rules
        )
    except Refused as refused:
        return refused.code
    return ErrorCode.none
