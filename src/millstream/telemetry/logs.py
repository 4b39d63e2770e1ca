"""Structured logs: ECS JSON for machines, aligned text for people.

    log = get_logger(__name__)
    log.warning("partition paused", code="partition_paused", topic="orders.events", partition=3)

`code` names the event for alerts, in snake_case: the words may change, the code does not. It is `event.code` in ECS,
and that of a `MillstreamError` is `error.code` (`error_code=` where only the error's text is logged).
Standard-library loggers (uvicorn's, SQLAlchemy's, librdkafka's) come out the same way.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import IO, Any, Literal

from millstream.errors import MillstreamError
from millstream.telemetry.lean import without

# It draws tracebacks with rich where it finds it; ours are plain, and every process would hold 4 MB more.
with without("rich"):
    import structlog
    from structlog.stdlib import ProcessorFormatter

EventDict = MutableMapping[str, Any]
HIDDEN = "••••••"
_SECRET = re.compile(r"password|passwd|secret|token|authorization|credential|api_?key", re.IGNORECASE)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; what is known for all of its lines can be bound: `get_logger(__name__).bind(group="inventory")`."""
    return structlog.stdlib.get_logger(name)


def configure_logs(
    service: str,
    slot: int = 0,
    *,
    format: Literal["auto", "json", "text"] = "auto",
    level: str = "info",
    stream: IO[str] | None = None,
) -> None:
    """Send all logs of this process to `stream` (standard error), each line with the service's name and slot.

    `format` "auto" is text on a terminal and JSON elsewhere. Text has colours on a terminal unless `NO_COLOR` is set.
    """
    out: IO[str] = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and out.isatty())
    formatter = ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["code"]), *_shared()],
        processors=[ProcessorFormatter.remove_processors_meta, *(_text(out) if as_text else _json(service, slot))],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    # One line for every request is the access log's business, and there is a metric for it.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _correlate,
        _redact,
        _mask_personal,
    ]


def _text(stream: IO[str]) -> list[Any]:
    colours = stream.isatty() and not os.environ.get("NO_COLOR")
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=32
    )
    return [renderer]


def _json(service: str, slot: int) -> list[Any]:
    def ecs(_: Any, __: str, event: EventDict) -> EventDict:
        line: dict[str, Any] = {
            "@timestamp": event.pop("timestamp"),
            "log.level": event.pop("level"),
            "message": event.pop("event"),
            "ecs.version": "8.11.0",
            "service.name": service,
            "service.node.name": f"{service}-{slot}",
            "log.logger": event.pop("logger", None),
        }
        for name in ("trace.id", "span.id"):
            if name in event:
                line[name] = event.pop(name)
        if (code := event.pop("code", None)) is not None:
            line["event.code"] = code
        error = _error(event.pop("exc_info", None))
        if (code := event.pop("error_code", None)) is not None:
            error["code"] = code
        if error:
            line["error"] = error
        if event:
            line["millstream"] = dict(event)
        return line

    return [ecs, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _error(exc_info: Any) -> dict[str, str]:
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if not isinstance(exc_info, tuple) or exc_info[1] is None:
        return {}
    error = exc_info[1]
    kind = type(error)
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "message": str(error),
        "stack_trace": "".join(traceback.format_exception(*exc_info)),
        **({"code": error.code} if isinstance(error, MillstreamError) else {}),
    }


def _correlate(_: Any, __: str, event: EventDict) -> EventDict:
    """Name the current trace, if tracing was switched on at all."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None and (context := trace.get_current_span().get_span_context()).is_valid:
        event["trace.id"] = f"{context.trace_id:032x}"
        event["span.id"] = f"{context.span_id:016x}"
    return event


def _redact(_: Any, __: str, event: EventDict) -> EventDict:
    for name in event:
        if _SECRET.search(name):
            event[name] = HIDDEN
    return event


def _mask_personal(_: Any, __: str, event: EventDict) -> EventDict:
    """Events and commands without what they say of a person, if this process has any at all."""
    personal = sys.modules.get("millstream.declare.personal")
    if personal is not None:
        for name, value in event.items():
            if personal.holds_personal(value):
                event[name] = personal.shown(value)
    return event


structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_shared(), ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
