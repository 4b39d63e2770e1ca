"""From the bytes of one request to the bytes of its answer."""

import re
import struct
from collections.abc import Callable

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.api.fetch import PendingFetch, Wanted
from millstream.local.broker.api.produce import produce
from millstream.local.broker.api.table import API_VERSIONS, APIS, FETCH, PRODUCE
from millstream.local.broker.core import CLUSTER_WRITE_MS, Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.fetch_sessions import FIRST_EPOCH, NO_SESSION, Reading
from millstream.local.broker.wire import fetch as fetch_wire
from millstream.local.broker.wire import produce as produce_wire
from millstream.local.broker.wire.buffer import Malformed, Reader
from millstream.local.broker.wire.control import Response, is_flexible, read_request, write_response

_HEAD = struct.Struct(">hhih")
_CORRELATION = struct.Struct(">ii")
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?")
TRANSACTION_WRITES = frozenset({22, 24, 25, 26, 28})
"""InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit: a cluster answers when its replicas
have them."""
FIRST_WITH_NAMES = 3
"""The version of ApiVersions in which a client says what it is."""

Reply = Callable[[bytes], None]


class Session:
    """What the broker keeps of one client while it is connected.

    `handle` takes one request at a time; its `reply` is called once with the whole frame to send, or with nothing to
    send.
    """

    def __init__(self, broker: Broker, client_host: str) -> None:
        self._broker = broker
        self._client_host = client_host
        self._waiting: PendingFetch | None = None
        self._own_reading = Reading(broker.topics)
        self._reading = self._own_reading

    def handle(self, frame: memoryview, reply: Reply) -> None:
        """Carry out the request in `frame` (without its length). Raises Malformed: then the connection must be
        closed."""
        if len(frame) < _HEAD.size:
            raise Malformed("a request shorter than its header")
        key, version, correlation, client_size = _HEAD.unpack_from(frame)
        api = APIS.get(key)
        if api is None:
            raise Malformed(f"API key {key} is not spoken here")
        if not api.lowest <= version <= api.highest or (key == PRODUCE and version < 3):
            if key != API_VERSIONS:
                raise Malformed(f"API key {key} is not spoken in version {version}")
            reply(_frame(correlation, False, _api_versions(0, ErrorCode.unsupported_version)))
            return
        body_at = _HEAD.size + max(client_size, 0)
        if body_at > len(frame):
            raise Malformed("the client id is longer than the request")
        if key == PRODUCE:
            self._produce(version, correlation, frame[_skip_tags(frame, body_at, version >= 9) :], reply)
        elif key == FETCH:
            self._fetch(version, correlation, frame[_skip_tags(frame, body_at, version >= 12) :], reply)
        elif key == API_VERSIONS:
            valid = version < FIRST_WITH_NAMES or _names_itself(frame, body_at)
            error = ErrorCode.none if valid else ErrorCode.invalid_request
            reply(_frame(correlation, False, _api_versions(version, error)))
        else:
            client_id = bytes(frame[_HEAD.size : body_at]).decode(errors="replace")
            flexible = is_flexible(key, version)
            body = bytes(frame[_skip_tags(frame, body_at, flexible) :])
            context = Context(self._broker, version, client_id, self._client_host)
            self._control(key, correlation, flexible, body, context, reply)

    def close(self) -> None:
        """The client is gone: nobody waits any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._reading.rest()

    def _produce(self, version: int, correlation: int, body: memoryview, reply: Reply) -> None:
        request = produce_wire.read_produce(version, body)
        results = produce(self._broker, version, request)
        if request.acks == 0:
            reply(b"")
            return
        reply(_frame(correlation, version >= produce_wire.FIRST_FLEXIBLE, produce_wire.write_produce(version, results)))

    def _fetch(self, version: int, correlation: int, body: memoryview, reply: Reply) -> None:
        request = fetch_wire.read_fetch(version, body)
        flexible = version >= fetch_wire.FIRST_FLEXIBLE
        try:
            wanted = self._find_reading(version, request)
        except Refused as refused:
            reply(_frame(correlation, flexible, *fetch_wire.FetchAnswer(version, 0, refused.code).finish()))
            return

        def answer(body: list[bytes]) -> None:
            self._waiting = None
            reply(_frame(correlation, flexible, *body))

        self._waiting = fetch = PendingFetch(self._broker, version, request, wanted, answer)
        fetch.start()

    def _find_reading(self, version: int, request: fetch_wire.FetchRequest) -> Wanted:
        """What the request wants to be told of: all that it names, or what is new in its session. Raises Refused."""
        sessions = self._broker.fetch_sessions
        full = request.session_epoch in (NO_SESSION, FIRST_EPOCH)
        session = sessions.begin(request, version) if full else sessions.go_on(request, version)
        reading = session.reading if session is not None else self._own_reading
        if reading is not self._reading:
            self._reading.rest()
            self._reading = reading
        if session is None:
            reading.ask_only(request.topics if full else [])
        return Wanted(reading, session.id if session is not None else 0, only_new=not full)

    def _control(self, key: int, correlation: int, flexible: bool, body: bytes, context: Context, reply: Reply) -> None:
        request = read_request(key, context.version, body)

        def answer(response: Response) -> None:
            frame = _frame(correlation, flexible, write_response(key, context.version, response))
            if self._broker.options.like_a_cluster and key in TRANSACTION_WRITES:
                self._broker.timers.after(CLUSTER_WRITE_MS, lambda: reply(frame))
            else:
                reply(frame)

        api = APIS[key]
        if api.handle is not None:
            answer(api.handle(context, request))
        elif api.handle_later is not None:
            api.handle_later(context, request, answer)


def _skip_tags(frame: memoryview, at: int, flexible: bool) -> int:
    if not flexible:
        return at
    if at < len(frame) and frame[at] == 0:
        return at + 1
    reader = Reader(frame, flexible, at)
    reader.tags()
    return reader.at


def _frame(correlation: int, flexible: bool, *body: bytes) -> bytes:
    tags = b"\0" if flexible else b""
    return b"".join([_CORRELATION.pack(4 + len(tags) + sum(map(len, body)), correlation), tags, *body])


def _names_itself(frame: memoryview, body_at: int) -> bool:
    """Whether the client's software has a name and a version that can be told in a metric."""
    reader = Reader(frame, True, _skip_tags(frame, body_at, True))
    return all(_SOFTWARE.fullmatch(reader.string() or "") for _ in range(2))


def _api_versions(version: int, error: ErrorCode) -> bytes:
    spoken = {} if error is ErrorCode.invalid_request else APIS
    keys = [{"api_key": key, "min_version": api.lowest, "max_version": api.highest} for key, api in spoken.items()]
    return write_response(API_VERSIONS, version, {"error_code": error, "api_keys": keys})
