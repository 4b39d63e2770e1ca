"""Metrics, traces, logs and health: hooks that the other rooms call."""

from millstream.telemetry.health import Health, Heartbeat
from millstream.telemetry.logs import configure_logs, get_logger
from millstream.telemetry.serve import ObservabilityServer, Observed
from millstream.telemetry.traces import Span, Tracer, start_tracing

__all__ = [
    "Health",
    "Heartbeat",
    "ObservabilityServer",
    "Observed",
    "Span",
    "Tracer",
    "configure_logs",
    "get_logger",
    "start_tracing",
]
