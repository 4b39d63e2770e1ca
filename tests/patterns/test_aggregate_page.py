"""What docs/aggregates.md shows works as it stands there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "aggregates.md"


def test_the_example_and_its_test_run():
    declared, tested, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "class Account(Aggregate" in declared
    assert "assert replay(" in tested
    names = {"__name__": "aggregates_page"}
    exec(declared + tested, names)
