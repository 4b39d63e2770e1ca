"""Spans, and the W3C header that names them. The tracer here makes none: it is the one while tracing is off."""

import re
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from millstream.timeouts import SPANS_CLOSE_TIMEOUT

_TRACEPARENT = re.compile(rb"\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

Attribute = str | int | float | bool


class TraceParent(NamedTuple):
    """The three things that a W3C `traceparent` says."""

    trace_id: int
    span_id: int
    sampled: bool


def parse_traceparent(header: bytes | None) -> TraceParent | None:
    """The W3C header taken apart; None for none, or one that is no good.

    >>> parse_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").sampled
    True
    """
    found = _TRACEPARENT.match(header) if header is not None else None
    if found is None or found[1] == b"ff" or (found[1] == b"00" and len(header or b"") != 55):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return TraceParent(trace_id, span_id, bool(int(found[4], 16) & 1)) if trace_id and span_id else None


def format_traceparent(trace_id: int, span_id: int, sampled: bool) -> bytes:
    """The W3C header for a span."""
    return b"00-%032x-%016x-%02x" % (trace_id, span_id, sampled)


class Span(Protocol):
    """A piece of work, as a context manager. An exception that leaves it marks it as failed."""

    @property
    def traceparent(self) -> bytes | None:
        """The `traceparent` for everything that comes of this work."""
        ...

    def set(self, name: str, value: Attribute) -> None: ...
    def fail(self, error: BaseException) -> None:
        """Mark the work as failed by an error that does not leave the `with` block."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PassedThrough:
    """The span of a process that does not trace: it hands on the traceparent it was given."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: bytes | None) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: Attribute) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


class Tracer:
    """Makes spans; this one, for when tracing is off, makes none. Ask `enabled` before preparing costly attributes."""

    enabled: bool = False

    def edge_span(self, method: str, route: str, traceparent: bytes | None = None) -> Span:
        """An HTTP request that comes in; where a trace begins."""
        return PassedThrough(traceparent)

    def send_span(self, topic: str, traceparent: bytes | None = None, *, key: bytes | None = None) -> Span:
        """An event on its way out."""
        return PassedThrough(traceparent)

    def process_span(
        self,
        topic: str,
        partition: int,
        offset: int,
        group: str,
        traceparent: bytes | None = None,
        *,
        handler: str | None = None,
        key: bytes | None = None,
    ) -> Span:
        """A handler at work on one event."""
        return PassedThrough(traceparent)

    def batch_span(
        self, operation: str, destination: str, group: str, *, size: int, links: Sequence[bytes | None] = ()
    ) -> Span:
        """`"poll"` or `"commit"` of many events at once, linked to (some of) them."""
        return PassedThrough(None)

    def close(self, timeout: float = SPANS_CLOSE_TIMEOUT) -> None:
        """Send what has been recorded, waiting at most `timeout` seconds."""
