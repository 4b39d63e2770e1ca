"""The public face of `millstream.testing`: its `__all__` and that of the simulation, and nothing beside them."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = ("millstream.testing", "millstream.testing.simulation")
USERS = sorted([*(ROOT / "apps").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])


def code_of(path: Path) -> Iterator[str]:
    text = path.read_text()
    if path.suffix == ".py":
        yield text
    else:
        # An import in a page stands alone on its line, whatever is left out around it.
        yield from re.findall(r"^from millstream\.testing.*$", text, re.MULTILINE)


def names_imported(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PUBLIC)
def test_everything_public_is_there(package: str):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_applications_and_documentation_import_public_names_only():
    public = {f"{package}.{name}" for package in PUBLIC for name in importlib.import_module(package).__all__}
    imported = {
        name: path.relative_to(ROOT)
        for path in USERS
        for code in code_of(path)
        for name in names_imported(code)
        if name.startswith("millstream.testing")
    }
    assert "millstream.testing.simulation.World" in imported
    assert {name: path for name, path in imported.items() if name not in public} == {}
