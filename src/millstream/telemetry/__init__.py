"""Metrics, traces, logs and health: hooks that the other rooms call."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from millstream.telemetry.health import Health, Heartbeat
    from millstream.telemetry.logs import configure_logs, get_logger
    from millstream.telemetry.serve import ObservabilityServer, Observed
    from millstream.telemetry.signs_of_life import native_call, still_alive, watched
    from millstream.telemetry.spans import Span, Tracer
    from millstream.telemetry.traces import start_tracing
    from millstream.telemetry.watchdog import Watchdog

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

_HOMES = {
    "health": ("Health", "Heartbeat"),
    "logs": ("configure_logs", "get_logger"),
    "serve": ("ObservabilityServer", "Observed"),
    "signs_of_life": ("native_call", "still_alive", "watched"),
    "spans": ("Span", "Tracer"),
    "traces": ("start_tracing",),
    "watchdog": ("Watchdog",),
}


def __getattr__(name: str) -> object:
    # Imported when first asked for: structlog and the client of Prometheus are a fifth of what `millstream lag` takes.
    for module, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            return globals().setdefault(name, found)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
