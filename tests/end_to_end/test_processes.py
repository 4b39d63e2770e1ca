"""Every process tells how it is, and what one order did shows as one trace."""

import httpx
import pytest
from tests.end_to_end.otlp import Collector
from tests.end_to_end.running import Running, eventually
from tests.end_to_end.shop import place, stock, wait_for

pytestmark = pytest.mark.slow


def test_every_process_serves_metrics_and_health(orders: Running):
    for name, process in orders.state["processes"].items():
        health = httpx.get(f"{process['url']}/health", timeout=5)
        metrics = httpx.get(f"{process['url']}/metrics", timeout=5)
        assert health.status_code == 200, (name, health.text)
        assert metrics.status_code == 200, name
        assert "process_resident_memory_bytes" in metrics.text, name


def test_one_order_is_one_trace(orders: Running, collector: Collector):
    stock(orders.url, {"trace-1": 5})
    order_id = place(orders.url, [("trace-1", 2, "1.50")])
    wait_for(orders.url, order_id, "completed")
    passed = {"order", "inventory", "payment", "shipping", "email", "read-model"}

    def services_of_one_trace() -> bool:
        traces: dict[bytes, set[str]] = {}
        mine: set[bytes] = set()
        for service, span in collector.spans():
            traces.setdefault(span.trace_id, set()).add(service)
            if any(attribute.value.string_value == order_id for attribute in span.attributes):
                mine.add(span.trace_id)
        return len(mine) == 1 and traces[next(iter(mine))] >= passed

    eventually(services_of_one_trace, within=60)
