"""InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn."""

from collections.abc import Callable
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.commits import commit_each
from millstream.local.broker.api.context import Context
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.control import Response, millis

FIRST_TO_KNOW_ABORTABLE = 4
"""The version of TxnOffsetCommit."""


def init_producer_id(context: Context, request: Any) -> Response:
    transactions = context.broker.transactions
    holder = (getattr(request, "producer_id", -1), getattr(request, "producer_epoch", -1))
    try:
        if (holder[0] < 0) != (holder[1] < 0):
            raise Refused(ErrorCode.invalid_request, "a producer id needs its epoch, and the other way round")
        if request.transactional_id is None:
            producer_id, epoch = transactions.new_producer_id(), 0
        else:
            producer_id, epoch = transactions.init(
                request.transactional_id, millis(request.transaction_timeout), *holder
            )
    except Refused as refused:
        return {"error_code": _in_words_of(refused.code, context.version >= 4), "producer_id": -1, "producer_epoch": -1}
    return {"producer_id": producer_id, "producer_epoch": epoch}


def add_partitions_to_txn(context: Context, request: Any) -> Response:
    topics = request.v3_and_below_topics
    places = [(topic.name, index) for topic in topics for index in topic.partitions]
    errors = {
        place: ErrorCode.unknown_topic_or_partition
        for place in places
        if context.broker.topics.partition(*place) is None
    }
    if errors:  # all of them or none
        errors = {place: errors.get(place, ErrorCode.operation_not_attempted) for place in places}
    else:
        try:
            context.broker.transactions.add_partitions(
                request.v3_and_below_transactional_id,
                request.v3_and_below_producer_id,
                request.v3_and_below_producer_epoch,
                places,
            )
        except Refused as refused:
            errors = dict.fromkeys(places, _in_words_of(refused.code, context.version >= 2))
    results = [
        {
            "name": topic.name,
            "results_by_partition": [
                {
                    "partition_index": index,
                    "partition_error_code": errors.get((topic.name, index), ErrorCode.none),
                }
                for index in topic.partitions
            ],
        }
        for topic in topics
    ]
    return {"results_by_topic_v3_and_below": results}


def add_offsets_to_txn(context: Context, request: Any) -> Response:
    try:
        context.broker.transactions.add_group(
            request.transactional_id, request.producer_id, request.producer_epoch, request.group_id
        )
    except Refused as refused:
        return {"error_code": _in_words_of(refused.code, context.version >= 2)}
    return {"error_code": ErrorCode.none}


def txn_offset_commit(context: Context, request: Any) -> Response:
    broker = context.broker
    error = _check_membership(broker, request)

    def commit(offsets: Any) -> None:
        try:
            broker.transactions.commit_offsets(
                request.transactional_id, request.producer_id, request.producer_epoch, request.group_id, offsets
            )
        except Refused as refused:
            if refused.code is ErrorCode.transaction_abortable and context.version < FIRST_TO_KNOW_ABORTABLE:
                raise Refused(ErrorCode.invalid_txn_state, refused.message) from refused
            raise

    return {"topics": commit_each(broker, request.topics, error, commit)}


def _check_membership(broker: Broker, request: Any) -> ErrorCode:
    if not request.group_id:
        return ErrorCode.invalid_group_id
    error = broker.groups.check_commit(
        request.group_id,
        getattr(request, "generation_id", -1),
        getattr(request, "member_id", ""),
        getattr(request, "group_instance_id", None),
        transactional=True,
    )
    return ErrorCode.illegal_generation if error is ErrorCode.group_id_not_found else error


def end_txn(context: Context, request: Any, answer: Callable[[Response], None]) -> None:
    """Answers when it is decided how the transaction ends: the client goes on while the markers are written."""
    try:
        context.broker.transactions.end(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            commit=request.committed,
            decided=lambda: answer({"error_code": ErrorCode.none}),
        )
    except Refused as refused:
        answer({"error_code": _in_words_of(refused.code, context.version >= 2)})


def _in_words_of(code: ErrorCode, knows_fenced: bool) -> ErrorCode:
    """Versions from before KIP-588 know one word for every kind of old producer."""
    return code if knows_fenced or code is not ErrorCode.producer_fenced else ErrorCode.invalid_producer_epoch
