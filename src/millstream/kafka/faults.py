"""librdkafka's errors in our own tree."""

from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka.cimpl import KafkaError, KafkaException

from millstream.errors import (
    ConfigurationError,
    EncodeError,
    Fenced,
    KafkaFault,
    RecordsRefused,
    TopicMissing,
    Unavailable,
)

T = TypeVar("T")

FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
REBALANCING = frozenset(
    {
        KafkaError._ASSIGNMENT_LOST,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)
MISSING = frozenset(
    {
        # What an AdminClient says where none of the partitions it is asked for has a leader.
        KafkaError._NOENT,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
REFUSED = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this principal the right on the cluster",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant this principal Read on the consumer group",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this principal Read, or Write, on the topic",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant this principal Write on the transactional id",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "its members assign partitions in another way; stop them all once",
    KafkaError.INVALID_SESSION_TIMEOUT: "set MILLSTREAM_SESSION_TIMEOUT_MS within brokers' group.*.session.timeout.ms",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "set MILLSTREAM_TRANSACTION_TIMEOUT_MS below transaction.max.timeout.ms",
    KafkaError.UNSUPPORTED_VERSION: "this needs a newer broker",
    KafkaError._UNSUPPORTED_FEATURE: "this needs a newer broker",
}
"""Errors that only an operator can mend, and how."""

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
RECORD_REFUSED = {
    KafkaError.INVALID_RECORD: "a compacted topic takes no record without a key",
    KafkaError._INVALID_DIFFERENT_RECORD: "another record of its batch is at fault",
    KafkaError.INVALID_TIMESTAMP: "see message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic",
}
"""Errors that a broker has for a batch because of one of its records, beside its size."""
_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._QUEUE_FULL,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)


def is_fenced(error: KafkaError) -> bool:
    """Return whether a newer holder has taken over; a fatal error on a consumer tells its code in its text alone."""
    return error.code() in FENCED or (error.code() == KafkaError._FATAL and "fenced" in error.str().lower())


def is_fatal(error: KafkaError) -> bool:
    """Return whether the client that it comes from is good for nothing any more."""
    return error.fatal() or error.code() == KafkaError._FATAL or is_fenced(error)


def kafka_error(raised: BaseException) -> KafkaError:
    """The error inside an exception of librdkafka's."""
    if raised.args and isinstance(raised.args[0], KafkaError):
        return raised.args[0]
    return KafkaError(KafkaError._FAIL, str(raised))


def made(make: Callable[[dict[str, Any]], T], properties: dict[str, Any]) -> T:
    """A client made with these properties. Raises `ConfigurationError` for properties that librdkafka does not take."""
    try:
        return make(properties)
    except KafkaException as raised:
        raise ConfigurationError(
            f"librdkafka refuses its configuration: {kafka_error(raised).str()}. See the MILLSTREAM_ variables for "
            "Kafka in `millstream config`."
        ) from raised


def fault(error: KafkaError | BaseException, doing: str) -> KafkaFault | EncodeError:
    """The Millstream error for `error`; `doing` is a gerund phrase that names the topic or group."""
    if isinstance(error, BaseException):
        error = kafka_error(error)
    code, detail = error.code(), f"{error.str()} ({error.name()})"
    if is_fenced(error):
        return Fenced(f"Fenced while {doing}: {detail}. A newer holder of this slot took over; stop this process.")
    if code in MISSING:
        return TopicMissing(f"No such topic or partition while {doing}: {detail}. Create it, or check its name.")
    if code in TOO_LARGE:
        return EncodeError(f"The record is too large while {doing}: {detail}. See message.max.bytes.")
    if code in RECORD_REFUSED:
        return EncodeError(f"The record is refused while {doing}: {detail}; {RECORD_REFUSED[code]}.")
    if code in REFUSED:
        return KafkaFault(f"Refused while {doing}: {detail}; {REFUSED[code]}.")
    if code in REBALANCING:
        return Unavailable(f"The group is being rebalanced while {doing}: {detail}. Poll, then see what is still ours.")
    if code in _PASSING or error.retriable():
        return Unavailable(f"No answer from Kafka while {doing}: {detail}. It is worth trying again.")
    return KafkaFault(f"Kafka failed while {doing}: {detail}.")


def undelivered(error: KafkaError | int, topic: str) -> KafkaFault | EncodeError:
    """The fault in a delivery report for a record of `topic`, or for the batch around it."""
    failure = fault(error if isinstance(error, KafkaError) else KafkaError(error), f"writing to {topic!r}")
    if not isinstance(failure, EncodeError):
        return failure
    return RecordsRefused(f"{failure} Compare max.message.bytes of the topic with what is written to it.", topic)


def fault_of(code: int, doing: str) -> KafkaFault | EncodeError:
    """The same for an error code of the protocol."""
    return fault(KafkaError(code), doing)


def too_few(topic: str, there: int, declared: int) -> str:
    """Say that a topic has fewer partitions than its declaration."""
    return (
        f"Topic {topic!r} has {there} partitions but is declared with {declared}. Partitions are not added by "
        "themselves, because keys would move: `millstream topics grow` adds them, to all topics that must agree, or "
        "says what stands against it. Or declare the number there is."
    )


def in_use(group: str) -> str:
    """Say that a group has members."""
    return (
        f"Group {group!r} has members: its offsets are theirs. Stop the service, and do it again: an instance that was "
        "stopped counts until its session has run out (MILLSTREAM_SESSION_TIMEOUT_MS)."
    )
