import io
import json
import logging

import pytest

from millstream.errors import Unavailable
from millstream.telemetry import configure_logs, get_logger


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_machine_gets_ecs_json():
    stream = io.StringIO()
    configure_logs("inventory", 2, stream=stream)
    get_logger("millstream.test").warning(
        "partition paused", code="partition_paused", topic="orders.events", partition=3
    )
    (line,) = lines(stream)
    assert line.pop("@timestamp").endswith("Z")
    assert line == {
        "log.level": "warning",
        "message": "partition paused",
        "ecs.version": "8.11.0",
        "service.name": "inventory",
        "service.node.name": "inventory-2",
        "log.logger": "millstream.test",
        "event.code": "partition_paused",
        "millstream": {"topic": "orders.events", "partition": 3},
    }


def test_errors_have_the_code_of_their_class():
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    log = get_logger("millstream.test")
    log.error("worker failed", code="worker_failed", exc_info=Unavailable("no broker answers"))
    log.error("cannot start", code="cannot_start", error="no broker answers", error_code=Unavailable.code)
    with_stack, without = lines(stream)
    assert with_stack["error"]["code"] == "brokers_unavailable"
    assert without["error"] == {"code": "brokers_unavailable"}


def test_a_logger_of_the_standard_library_has_codes_too():
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    logging.getLogger("millstream.local.test").warning("cut %d bytes", 3, extra={"code": "torn_tail_cut"})
    (line,) = lines(stream)
    assert (line["message"], line["event.code"]) == ("cut 3 bytes", "torn_tail_cut")


def test_other_libraries_come_out_the_same_way():
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    logging.getLogger("another.library").info("started on %s", "127.0.0.1")
    (line,) = lines(stream)
    assert (line["message"], line["log.logger"], line["log.level"]) == (
        "started on 127.0.0.1",
        "another.library",
        "info",
    )


@pytest.mark.parametrize("foreign", [True, False])
def test_an_exception_is_taken_apart(foreign):
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    try:
        raise ValueError("too heavy")
    except ValueError:
        (logging.getLogger("foreign") if foreign else get_logger("ours")).exception("handler failed")
    (line,) = lines(stream)
    assert line["error"]["type"] == "builtins.ValueError"
    assert line["error"]["message"] == "too heavy"
    assert "test_an_exception_is_taken_apart" in line["error"]["stack_trace"]


def test_secrets_are_hidden():
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    get_logger("x").info("connecting", sasl_password="hunter2", user="orders", Authorization="Bearer abc")
    assert "hunter2" not in stream.getvalue()
    assert "Bearer" not in stream.getvalue()
    assert lines(stream)[0]["millstream"]["user"] == "orders"


def test_a_person_gets_text_with_colours_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    configure_logs("inventory", stream=coloured)
    get_logger("x").info("partition paused", partition=3)
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logs("inventory", stream=plain)
    get_logger("x").info("partition paused", partition=3)
    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()
    assert "partition paused" in plain.getvalue()
    assert "partition=3" in plain.getvalue()


def test_the_format_can_be_forced():
    terminal, pipe = Terminal(), io.StringIO()
    configure_logs("inventory", format="json", stream=terminal)
    get_logger("x").info("hello")
    configure_logs("inventory", format="text", stream=pipe)
    get_logger("x").info("hello")
    assert lines(terminal)[0]["message"] == "hello"
    assert not pipe.getvalue().startswith("{")


def test_what_is_below_the_level_is_not_said():
    stream = io.StringIO()
    configure_logs("inventory", level="warning", stream=stream)
    get_logger("x").info("hello")
    assert stream.getvalue() == ""


def test_a_value_that_is_no_json_does_not_lose_the_line():
    stream = io.StringIO()
    configure_logs("inventory", stream=stream)
    get_logger("x").info("odd", key=b"\xff", error=ValueError("v"))
    assert lines(stream)[0]["message"] == "odd"
