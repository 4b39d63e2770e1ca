"""Event-driven microservices on Apache Kafka: exactly-once handlers, typed events, one declaration."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from millstream.declare import (
        FOREVER,
        Alias,
        Call,
        Command,
        Deleted,
        Deprecated,
        Doc,
        Envelope,
        EpochMicros,
        EpochMillis,
        EpochSeconds,
        Event,
        FromNumber,
        FromText,
        LocalAsUtc,
        Number,
        Personal,
        Retry,
        Sandbox,
        Scale,
        Service,
        State,
        Store,
        System,
        Timer,
        Timers,
        Topic,
        Value,
        days,
        dead_letter,
        exponential,
        hours,
        minutes,
        park_key,
        seconds,
        stop,
        upcasts,
    )
    from millstream.errors import MillstreamError, Rejected, Unsettled

__all__ = [
    "FOREVER",
    "Alias",
    "Call",
    "Command",
    "Deleted",
    "Deprecated",
    "Doc",
    "Envelope",
    "EpochMicros",
    "EpochMillis",
    "EpochSeconds",
    "Event",
    "FromNumber",
    "FromText",
    "LocalAsUtc",
    "MillstreamError",
    "Number",
    "Personal",
    "Rejected",
    "Retry",
    "Sandbox",
    "Scale",
    "Service",
    "State",
    "Store",
    "System",
    "Timer",
    "Timers",
    "Topic",
    "Unsettled",
    "Value",
    "days",
    "dead_letter",
    "exponential",
    "hours",
    "minutes",
    "park_key",
    "seconds",
    "stop",
    "upcasts",
]


def __getattr__(name: str) -> object:
    # Imported when first asked for: the local broker and the pytest plugin are parts of this package, and need none
    # of it.
    if name in __all__:
        for room in ("millstream.errors", "millstream.declare"):
            if hasattr(module := importlib.import_module(room), name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
