"""The tracer on the OpenTelemetry SDK; imported only when tracing is on."""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millstream.telemetry.spans import Attribute, Span, Tracer, format_traceparent, parse_traceparent
from millstream.timeouts import SPANS_CLOSE_TIMEOUT

MAX_LINKS = 64


class OpenTelemetryTracer(Tracer):
    """Spans by OTLP over HTTP, named as OpenTelemetry's messaging conventions say. The SDK reads `OTEL_*` by itself."""

    enabled = True

    def __init__(self, service: str, slot: int) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win: Resource.create reads them over these.
        resource = Resource.create({"service.name": service, "service.instance.id": f"{service}-{slot}"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("millstream")

    def edge_span(self, method: str, route: str, traceparent: bytes | None = None) -> Span:
        attributes = {"http.request.method": method, "http.route": route}
        return self._start(f"{method} {route}", SpanKind.SERVER, traceparent, attributes)

    def send_span(self, topic: str, traceparent: bytes | None = None, *, key: bytes | None = None) -> Span:
        return self._start(f"send {topic}", SpanKind.PRODUCER, traceparent, _messaging("send", "send", topic, key))

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
        attributes = _messaging("process", "process", topic, key) | {
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
            "messaging.consumer.group.name": group,
        }
        if handler is not None:
            attributes["millstream.handler"] = handler
        return self._start(f"process {topic}", SpanKind.CONSUMER, traceparent, attributes)

    def batch_span(
        self, operation: str, destination: str, group: str, *, size: int, links: Sequence[bytes | None] = ()
    ) -> Span:
        attributes = _messaging(operation, "receive" if operation == "poll" else "settle", destination, None) | {
            "messaging.consumer.group.name": group,
            "messaging.batch.message_count": size,
        }
        contexts = [_context_of(link) for link in dict.fromkeys(links[:MAX_LINKS])]
        linked = [Link(found) for found in contexts if found is not None]
        return self._start(f"{operation} {destination}", SpanKind.CLIENT, None, attributes, linked)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        traceparent: bytes | None,
        attributes: Mapping[str, Attribute],
        links: Sequence[Link] = (),
    ) -> Span:
        # An empty context, not the thread's: a worker handles one event after another, and none is the other's cause.
        parent = _context_of(traceparent)
        around = context.Context()
        if parent is not None:
            around = trace.set_span_in_context(NonRecordingSpan(parent), around)
        return _Recorded(self._tracer.start_span(name, around, kind, attributes, links))

    def close(self, timeout: float = SPANS_CLOSE_TIMEOUT) -> None:
        # The SDK's own shutdown retries for longer than a stopping service may wait.
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(timeout)


class _Recorded:
    __slots__ = ("_span", "_token", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        found = span.get_span_context()
        self.traceparent: bytes | None = format_traceparent(found.trace_id, found.span_id, found.trace_flags.sampled)

    def set(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, value)

    def fail(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, str(error)))

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        context.detach(self._token)
        self._span.end()


def _messaging(operation: str, kind: str, topic: str, key: bytes | None) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
    if key is not None:
        attributes["messaging.kafka.message.key"] = key.decode(errors="replace")
    return attributes


def _context_of(traceparent: bytes | None) -> SpanContext | None:
    parsed = parse_traceparent(traceparent)
    if parsed is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if parsed.sampled else TraceFlags.DEFAULT)
    return SpanContext(parsed.trace_id, parsed.span_id, is_remote=True, trace_flags=flags)
