"""Metrics, traces, logs and health: hooks that the other rooms call."""

from millstream.telemetry.health import Health, Heartbeat
from millstream.telemetry.logs import configure_logs, get_logger
from millstream.telemetry.serve import ObservabilityServer, Observed
from millstream.telemetry.traces import Span, Tracer, start_tracing
from millstream.telemetry.watchdog import Watchdog, native_call, still_alive, watched

__all__ = [
    "Health",
    "Heartbeat",
    "ObservabilityServer",
    "Observed",
    "Span",
    "Tracer",
    "Watchdog",
    "configure_logs",
    "get_logger",
    "native_call",
    "start_tracing",
    "still_alive",
    "watched",
]
