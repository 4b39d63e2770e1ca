"""One request as rules see it, and the part of it that concerns one topic."""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from kio.schema.types import GroupId, TopicName, TransactionalId
from kio.serial import entity_writer
from kio.static.constants import EntityType

from millstream.local.broker.api.table import APIS, FETCH, PRODUCE
from millstream.local.broker.wire.buffer import Reader
from millstream.local.broker.wire.control import is_flexible, read_request
from millstream.local.faults.forms import form, parts

_HEAD = struct.Struct(">hhih")
FIND_COORDINATOR = 10
_CONFIGS = (32, 33, 44)
_OF_TOPICS = 2
_SESSIONLESS = -1


class Request:
    """A request that this broker speaks, read as far as a rule asks."""

    def __init__(self, frame: memoryview, topic_name: Callable[[UUID], str | None]) -> None:
        """Raises Malformed."""
        self.frame = frame
        self.key, self.version, self.correlation, client_size = _HEAD.unpack_from(frame)
        self.flexible = is_flexible(self.key, self.version)
        body_at = _HEAD.size + max(client_size, 0)
        self.client_id = bytes(frame[_HEAD.size : body_at]).decode(errors="replace")
        reader = Reader(frame, self.flexible, body_at)
        reader.tags()
        self._body_at = reader.at
        self._topic_name = topic_name
        self.asked = read_request(self.key, self.version, bytes(frame[reader.at :]))
        self._names: dict[type, set[str]] | None = None

    @property
    def topics(self) -> set[str]:
        return self._named(TopicName)

    @property
    def groups(self) -> set[str]:
        return self._named(GroupId)

    @property
    def transactional_ids(self) -> set[str]:
        return self._named(TransactionalId)

    @property
    def unanswered(self) -> bool:
        """Whether the client waits for no answer."""
        return self.key == PRODUCE and self.asked.acks == 0

    @property
    def in_fetch_session(self) -> bool:
        """Whether it names only what is new since the last fetch of its session."""
        return self.key == FETCH and getattr(self.asked, "session_epoch", _SESSIONLESS) > 0

    def without_session(self) -> memoryview:
        """The frame of a full fetch that asks for no session."""
        return self._frame(replace(self.asked, session_epoch=_SESSIONLESS))

    def split(self, topic: str | None) -> tuple[Any, memoryview | None]:
        """What the request asks of `topic`, and the frame of a request for all the rest; None if nothing is left."""
        if topic is None:
            return self.asked, None
        of_topic, rest = self._halves(self.asked, topic)
        if rest is None:
            return of_topic, None
        if self.key == FETCH:  # an error is answered at once, and the rest with it
            rest = replace(rest, max_wait=timedelta(0))
        return of_topic, self._frame(rest)

    def is_of(self, item: Any, topic: str) -> bool:
        """Whether an item of an array in a request or response is about `topic`."""
        return topic in self._own_topics(item)

    def _frame(self, asked: Any) -> memoryview:
        buffer = io.BytesIO()
        buffer.write(self.frame[: self._body_at])
        entity_writer(type(asked))(buffer, asked)
        return buffer.getbuffer()

    def _halves(self, value: Any, topic: str) -> tuple[Any, Any]:
        """`value` with only `topic` in it, and without; None for one that would name no topic."""
        of_topic: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for part in parts(type(value)):
            items = getattr(value, part.name)
            if part.item is None or not items or part.name == "forgotten_topics_data":
                continue
            if not any(self._names_topics(item) for item in items):
                continue
            if any(self._own_topics(item) for item in items):
                of_topic[part.name] = tuple(item for item in items if self.is_of(item, topic))
                rest[part.name] = tuple(item for item in items if not self.is_of(item, topic))
            else:
                halves = [self._halves(item, topic) for item in items]
                of_topic[part.name] = tuple(mine for mine, _ in halves if mine is not None)
                rest[part.name] = tuple(other for _, other in halves if other is not None)
        return (
            replace(value, **of_topic) if any(of_topic.values()) else None,
            replace(value, **rest) if any(rest.values()) else None,
        )

    def _names_topics(self, item: Any) -> bool:
        return any(kind is TopicName for kind, _ in self._walk(item))

    def _own_topics(self, item: Any) -> set[str]:
        """The topics that an item names itself, not in what it holds."""
        if not hasattr(item, "__dataclass_fields__"):
            return {name for kind, name in self._scalar(item, TopicName) if kind is TopicName} if item else set()
        if self.key in _CONFIGS and getattr(item, "resource_type", None) == _OF_TOPICS:
            return {item.resource_name}
        found: set[str] = set()
        for part in parts(type(item)):
            if part.item is None:
                found |= {name for kind, name in self._scalar(getattr(item, part.name), part.type) if kind is TopicName}
        return found

    def _named(self, kind: type) -> set[str]:
        if self._names is None:
            self._names = {TopicName: set(), GroupId: set(), TransactionalId: set()}
            for found, name in self._walk(self.asked):
                self._names[found].add(name)
        return self._names[kind]

    def _walk(self, value: Any) -> Iterator[tuple[type, str]]:
        if not hasattr(value, "__dataclass_fields__"):
            yield from self._scalar(value, type(value))
            return
        if self.key in _CONFIGS and getattr(value, "resource_type", None) == _OF_TOPICS:
            yield TopicName, value.resource_name
        if self.key == FIND_COORDINATOR:
            kind = TransactionalId if getattr(value, "key_type", 0) == 1 else GroupId
            yield from ((kind, key) for key in getattr(value, "coordinator_keys", None) or (value.key,))
        for part in parts(type(value)):
            content = getattr(value, part.name)
            if part.nested:
                for item in content or ():
                    yield from self._walk(item)
            elif part.item is not None:
                for item in content or ():
                    yield from self._scalar(item, part.item)
            else:
                yield from self._scalar(content, part.type)

    def _scalar(self, value: Any, kind: Any) -> Iterator[tuple[type, str]]:
        if value is None:
            return
        if isinstance(value, UUID):
            name = self._topic_name(value)
            if name is not None:
                yield TopicName, name
        elif kind in (TopicName, GroupId, TransactionalId):
            yield kind, value


def is_spoken(frame: memoryview) -> bool:
    """Whether the request has an API key and version that this broker answers in the ordinary way."""
    if len(frame) < _HEAD.size:
        return False
    key, version, _, _ = _HEAD.unpack_from(frame)
    api = APIS.get(key)
    return api is not None and max(api.lowest, 3 if key == PRODUCE else 0) <= version <= api.highest


def response_form(request: Request) -> Any:
    return form(request.key, request.version, EntityType.response)
