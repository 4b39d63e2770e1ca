from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.end_to_end.otlp import Collector
from tests.end_to_end.running import Running


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Takes the spans of `orders`."""
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Running]:
    """The order system on the local platform, with tracing on, shared by all tests of a file."""
    with Running(tmp_path_factory.mktemp("orders"), env=collector.env) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Running]:
    """An order system of this test's own: for what counts everything, or breaks something."""
    with Running(tmp_path / "orders") as running:
        yield running
