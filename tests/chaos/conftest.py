from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.end_to_end.running import Running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Running]:
    """An order system of this test's own."""
    with Running(tmp_path / "orders") as running:
        yield running
