"""The session of a client whose requests may meet a rule."""

import logging
import struct
from collections.abc import Callable

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.table import FETCH
from millstream.local.broker.core import Broker
from millstream.local.broker.dispatch import Reply, Session
from millstream.local.broker.timers import Timer
from millstream.local.broker.wire.buffer import Malformed
from millstream.local.faults.answer import METADATA, error_answer, has_plain_header, joined, with_topic_errors
from millstream.local.faults.request import Request, is_spoken
from millstream.local.faults.rules import Rule, Rules

log = logging.getLogger(__name__)

_CORRELATION = struct.Struct(">ii")


class FaultySession(Session):
    """A `Session` that asks `rules` first, if there are any. `hang_up` closes the connection.

    A request that is swallowed is never answered, so the connection behind it waits, as with a broker that hangs.
    """

    def __init__(self, broker: Broker, client_host: str, rules: Rules, hang_up: Callable[[], None]) -> None:
        super().__init__(broker, client_host)
        self._rules = rules
        self._hang_up = hang_up
        self._delay: Timer | None = None

    def handle(self, frame: memoryview, reply: Reply) -> None:
        if not self._rules.active or not is_spoken(frame):
            super().handle(frame, reply)
            return
        request = Request(frame, self._topic_name)
        if self._rules.read_fetches and request.key == FETCH:
            if request.in_fetch_session:
                body = error_answer(request, request.asked, ErrorCode.fetch_session_id_not_found)
                reply(_frame(request, body))
                return
            if request.version >= 7:
                request = Request(request.without_session(), self._topic_name)
        rule = self._rules.striking(request)
        if rule is None:
            super().handle(request.frame, reply)
        else:
            self._suffer(rule, request, reply)

    def close(self) -> None:
        if self._delay is not None:
            self._delay.cancel()
        super().close()

    def _suffer(self, rule: Rule, request: Request, reply: Reply) -> None:
        match rule.fault.do, rule.fault.when:
            case "drop", _:
                pass
            case "close", _:
                self._hang_up()
            case "error", _:
                assert rule.error is not None
                self._refuse(request, rule.fault.topic, rule.error, reply)
            case "delay", "before":
                kept = memoryview(bytearray(request.frame))
                self._after(rule.fault.seconds, lambda: super(FaultySession, self).handle(kept, reply))
            case "delay", "after":
                super().handle(request.frame, lambda answer: self._after(rule.fault.seconds, lambda: reply(answer)))
            case "crash", "before":
                self._crash()
            case "crash", "after":
                super().handle(request.frame, lambda _: self._crash())
            case "lose_response", _:
                hang_up = _nothing if rule.fault.keep_open else self._hang_up
                super().handle(request.frame, lambda _: hang_up())
            case _:
                raise AssertionError(rule.fault)

    def _refuse(self, request: Request, topic: str | None, code: ErrorCode, reply: Reply) -> None:
        if request.unanswered:
            self._hang_up()  # the only way to tell
            return
        if request.key == METADATA:
            super().handle(
                request.frame,
                lambda answer: reply(_frame(request, with_topic_errors(request, _body(request, answer), topic, code))),
            )
            return
        refused, rest = request.split(topic)
        body = error_answer(request, refused, code)
        if rest is None:
            reply(_frame(request, body))
        else:
            super().handle(rest, lambda answer: reply(_frame(request, joined(request, body, _body(request, answer)))))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        def act() -> None:
            try:
                action()
            except Malformed as malformed:
                log.warning("closing a connection: %s", malformed, extra={"code": "faulty_connection_closed"})
                self._hang_up()
            except Exception:
                log.exception(
                    "a delayed request failed; its connection is closed", extra={"code": "delayed_request_failed"}
                )
                self._hang_up()

        self._delay = self._broker.timers.after(round(seconds * 1000), act)

    def _crash(self) -> None:
        self._rules.die()
        self._hang_up()

    def _topic_name(self, topic_id: object) -> str | None:
        topic = self._broker.topics.by_id.get(topic_id)  # type: ignore[arg-type]
        return None if topic is None else topic.name


def _nothing() -> None: ...


def _frame(request: Request, body: bytes) -> bytes:
    header = b"" if has_plain_header(request) else b"\0"
    return _CORRELATION.pack(4 + len(header) + len(body), request.correlation) + header + body


def _body(request: Request, frame: bytes) -> bytes:
    return bytes(frame[8 if has_plain_header(request) else 9 :])
