import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.telemetry.collector import Collector, attributes

from millstream.telemetry.spans import Tracer, format_traceparent, parse_traceparent
from millstream.telemetry.traces import start_tracing

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector(monkeypatch):
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield collector
    collector.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_tracing_is_off_unless_it_is_asked_for(environ):
    assert not start_tracing("order", environ=environ).enabled


def test_without_tracing_a_traceparent_passes_through_and_none_is_invented():
    tracer = Tracer()
    with tracer.process_span("orders.events", 0, 1, "inventory", PARENT) as span:
        assert span.traceparent is PARENT
    for span in (tracer.edge_span("POST", "/orders"), tracer.send_span("orders.events")):
        assert span.traceparent is None


def test_without_tracing_nothing_of_opentelemetry_is_imported():
    code = (
        "import sys; from millstream.telemetry import start_tracing, configure_logs, get_logger\n"
        "configure_logs('order'); get_logger('x').info('hello'); start_tracing('order', environ={})\n"
        "sys.exit(any(name.split('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_order_is_one_trace_from_edge_to_handler(collector):
    tracer = start_tracing("inventory", 3)
    with tracer.edge_span("POST", "/orders") as edge, tracer.send_span("orders.events", edge.traceparent) as sent:
        pass
    with tracer.process_span(
        "orders.events", 2, 41, "inventory", sent.traceparent, handler="reserve", key=b"o-1"
    ) as processed:
        assert parse_traceparent(processed.traceparent).trace_id == parse_traceparent(edge.traceparent).trace_id
    tracer.close()
    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST /orders", "send orders.events", "process orders.events"}
    assert len({span.trace_id for span in collector.spans}) == 1
    assert by_name["POST /orders"].parent_span_id == b""
    assert by_name["send orders.events"].parent_span_id == by_name["POST /orders"].span_id
    process = by_name["process orders.events"]
    assert process.parent_span_id == by_name["send orders.events"].span_id
    assert (process.kind, by_name["send orders.events"].kind, by_name["POST /orders"].kind) == (5, 4, 2)
    assert attributes(process) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders.events",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 41,
        "messaging.kafka.message.key": "o-1",
        "messaging.consumer.group.name": "inventory",
        "millstream.handler": "reserve",
    }
    assert collector.resource["service.name"] == "inventory"
    assert collector.resource["service.instance.id"] == "inventory-3"


def test_the_parent_is_the_header_whatever_the_thread_did_before(collector):
    tracer = start_tracing("inventory")

    def work() -> None:
        with tracer.process_span("a", 0, 0, "g", PARENT), tracer.process_span("b", 0, 0, "g"):
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close()
    children = [span for span in collector.spans if span.name == "process a"]
    assert {span.parent_span_id.hex() for span in children} == {"b7ad6b7169203331"}
    assert {span.trace_id.hex() for span in children} == {"0af7651916cd43dd8448eb211c80319c"}
    assert {span.parent_span_id for span in collector.spans if span.name == "process b"} == {b""}


def test_a_failure_is_on_the_span_and_goes_on(collector):
    tracer = start_tracing("inventory")
    with pytest.raises(ValueError, match="too heavy"), tracer.process_span("a", 0, 0, "g"):
        raise ValueError("too heavy")
    with tracer.process_span("b", 0, 0, "g") as span:
        span.fail(KeyError("gone"))
    tracer.close()
    failures = {span.name: (span.status.code, attributes(span)["error.type"]) for span in collector.spans}
    assert failures == {"process a": (2, "ValueError"), "process b": (2, "KeyError")}


def test_a_commit_is_linked_to_what_it_commits(collector):
    tracer = start_tracing("inventory")
    with tracer.batch_span("commit", "orders.events", "inventory", size=3, links=[PARENT, None, PARENT]):
        pass
    tracer.close()
    (span,) = collector.spans
    assert span.name == "commit orders.events"
    assert [link.span_id.hex() for link in span.links] == ["b7ad6b7169203331"]
    assert attributes(span)["messaging.batch.message_count"] == 3


def test_a_parent_that_is_not_sampled_is_not_recorded_but_handed_on(collector):
    tracer = start_tracing("inventory")
    with tracer.process_span("a", 0, 0, "g", PARENT[:-2] + b"00") as span:
        assert parse_traceparent(span.traceparent).sampled is False
        assert parse_traceparent(span.traceparent).trace_id == parse_traceparent(PARENT).trace_id
    tracer.close()
    assert collector.spans == []


def test_closing_is_bounded_when_the_collector_does_not_answer(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        tracer = start_tracing("inventory")
        with tracer.send_span("a"):
            pass
        started = time.monotonic()
        tracer.close(timeout=0.3)
        assert time.monotonic() - started < 30


@given(st.integers(min_value=1, max_value=2**128 - 1), st.integers(min_value=1, max_value=2**64 - 1), st.booleans())
def test_traceparents_survive_a_round_trip(trace_id, span_id, sampled):
    assert parse_traceparent(format_traceparent(trace_id, span_id, sampled)) == (trace_id, span_id, sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"nonsense",
        PARENT[:-1],
        PARENT + b"-00",
        b"ff" + PARENT[2:],
        PARENT.upper(),
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
    ],
)
def test_a_bad_traceparent_is_none(header):
    assert parse_traceparent(header) is None


def test_a_traceparent_of_a_later_version_is_read_as_far_as_we_know():
    assert parse_traceparent(b"cc" + PARENT[2:] + b"-more").sampled
