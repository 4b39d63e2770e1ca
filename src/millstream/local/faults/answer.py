"""An answer that is an error, for any request: where Kafka puts it, with all that the request named."""

import io
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import TZAware

from millstream.local.broker.api.table import API_VERSIONS
from millstream.local.broker.wire.control import write_response
from millstream.local.faults.forms import Part, holds_error, parts
from millstream.local.faults.request import Request, response_form

METADATA = 3
_MESSAGE = "asked for by a fault rule"
_DESCRIBE_LOG_DIRS = 35
_OFFSET_FETCH = 9

# What concerns the coordinator, the session or the caller is said once where the answer has a place for it; anything
# else is said of each topic and partition.
_OF_THE_WHOLE = {
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.not_coordinator,
    ErrorCode.group_authorization_failed,
    ErrorCode.cluster_authorization_failed,
    ErrorCode.unsupported_version,
    ErrorCode.fetch_session_id_not_found,
    ErrorCode.invalid_fetch_session_epoch,
    ErrorCode.fetch_session_topic_id_error,
    ErrorCode.throttling_quota_exceeded,
}
_OF_THE_MEMBER = {ErrorCode.unknown_member_id, ErrorCode.illegal_generation, ErrorCode.stale_member_epoch}

_PARTITION = ("partition_index", "index", "partition", "partition_id")
_TOPIC = ("name", "topic", "topic_name")
_NO_TIME = datetime.fromtimestamp(-0.001, UTC)
_NAMES = (
    *_PARTITION, *_TOPIC, "topic_id", "group_id", "transactional_id", "member_id", "group_instance_id", "key",
    "resource_type", "resource_name",
)  # fmt: skip


def error_answer(request: Request, asked: Any, code: ErrorCode) -> bytes:
    """The body of an answer that refuses `asked`, which is `request` or a part of it."""
    whole = code in _OF_THE_WHOLE or request.key == _DESCRIBE_LOG_DIRS
    whole = whole or (request.key == _OFFSET_FETCH and code in _OF_THE_MEMBER)
    return write_response(request.key, request.version, _filled(response_form(request), asked, code, whole))


def joined(request: Request, one: bytes, other: bytes) -> bytes:
    """One answer of two: their arrays together, everything else from `one`."""
    entity = response_form(request)
    first, second = read_answer(request, one), read_answer(request, other)
    arrays = {
        part.name: (*getattr(first, part.name), *(getattr(second, part.name) or ()))
        for part in parts(entity)
        if part.nested and getattr(first, part.name) is not None
    }
    return write_answer(replace(first, **arrays))


def with_topic_errors(request: Request, body: bytes, topic: str | None, code: ErrorCode) -> bytes:
    """A Metadata answer in which `topic`, or every topic, has the error and no partitions."""
    answer = read_answer(request, body)
    topics = tuple(
        replace(item, error_code=code, partitions=()) if topic is None or request.is_of(item, topic) else item
        for item in answer.topics
    )
    if not topics and any(field.name == "error_code" for field in fields(answer)):
        return write_answer(replace(answer, error_code=code))
    return write_answer(replace(answer, topics=topics))


def read_answer(request: Request, body: bytes) -> Any:
    return entity_reader(response_form(request))(body, 0)[0]


def write_answer(answer: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(answer))(buffer, answer)
    return buffer.getvalue()


def has_plain_header(request: Request) -> bool:
    """Whether the answer's header has no tagged fields."""
    return request.key == API_VERSIONS or not request.flexible


def _filled(entity: Any, asked: Any, code: ErrorCode, whole: bool) -> dict[str, Any]:
    """What `entity` answers to `asked`, in the form that `write_response` takes."""
    answer: dict[str, Any] = {}
    own = next((part.name for part in parts(entity) if part.type is ErrorCode), None)
    arrays = [part for part in parts(entity) if part.nested and holds_error(part.item)]
    for part in parts(entity):
        value = _echo(part, asked)
        if value is not None:
            answer[part.name] = value
        elif part.name == "error_message":
            answer[part.name] = _MESSAGE
        elif _is_unset_number(part):
            answer[part.name] = -1
        elif part.type is TZAware and part.optional:
            answer[part.name] = _NO_TIME
    if own is None or not whole:
        for part in arrays:
            answer[part.name] = [_filled(part.item, item, code, whole) for item in _asked_items(asked, part)]
    if own is not None and not any(answer.get(part.name) for part in arrays):
        answer[own] = code
    return answer


def _echo(part: Part, asked: Any) -> Any:
    """What the answer repeats of the request, by its name or by what it stands for."""
    if part.item is not None or part.name not in _NAMES:
        return None
    if not hasattr(asked, "__dataclass_fields__"):  # an array of plain names or numbers
        kind = UUID if isinstance(asked, UUID) else str if isinstance(asked, str) else int
        return asked if isinstance(part.type, type) and issubclass(part.type, kind) else None
    alike = next((names for names in (_PARTITION, _TOPIC) if part.name in names), (part.name,))
    return next((getattr(asked, name) for name in alike if getattr(asked, name, None) is not None), None)


def _asked_items(asked: Any, answered: Part) -> tuple[Any, ...]:
    if not hasattr(asked, "__dataclass_fields__"):
        return ()
    arrays = [part for part in parts(type(asked)) if part.item is not None]
    arrays.sort(key=lambda part: part.name != answered.name)  # the one of the same name, else the first
    return next((items for part in arrays if (items := getattr(asked, part.name))), ())


def _is_unset_number(part: Part) -> bool:
    """Kafka writes -1 for numbers that an error leaves without meaning: offsets, epochs, nodes."""
    number = isinstance(part.type, type) and issubclass(part.type, int) and part.type is not bool
    return number and not part.has_default and part.type is not ErrorCode and part.name != "session_id"
