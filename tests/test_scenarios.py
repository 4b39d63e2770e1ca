"""Every failure that docs/failure-scenarios.md lists has a test that bears its number."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
LISTED = re.findall(r"^\| (\d+) \|", (TESTS.parent / "docs" / "failure-scenarios.md").read_text(), re.MULTILINE)


def marked() -> set[int]:
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.scenario":
                (number,) = node.args
                assert isinstance(number, ast.Constant), f"{path}: write the number of the scenario as a number"
                found.add(int(str(number.value)))
    return found


def test_every_scenario_has_a_test_and_every_number_a_scenario():
    assert marked() == {int(number) for number in LISTED}
