"""Traces: OpenTelemetry when the standard variables ask for it, and next to nothing otherwise.

Tracing is on when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, `OTEL_SDK_DISABLED` is
not `true` and `OTEL_TRACES_EXPORTER` is not `none`. While it is off nothing of OpenTelemetry is imported, and a
`traceparent` that came in goes out unchanged; none is invented.

    with tracer.process_span("orders.events", 3, 42, "inventory", traceparent=b"00-…") as span:
        event = handle(...)
        headers.append(("traceparent", span.traceparent))

Spans can be made on any thread: the parent is what the header says, never what the thread did before.
"""

import os
from collections.abc import Mapping

from millstream.telemetry.spans import Tracer


def start_tracing(service: str, slot: int = 0, environ: Mapping[str, str] = os.environ) -> Tracer:
    """The tracer that the environment asks for."""
    if not _wanted(environ):
        return Tracer()
    from millstream.telemetry.otel import OpenTelemetryTracer

    return OpenTelemetryTracer(service, slot)


def _wanted(environ: Mapping[str, str]) -> bool:
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    return bool(endpoint) and not disabled and exporter != "none"
