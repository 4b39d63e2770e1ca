"""Names of topics that somebody typed: a topic is named once, where it is declared."""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from millstream.declare import Service, Topic
from millstream.operate.schemas.lint.rules import Remark

_DECLARING = frozenset({"Topic", "View", "Store", "Mirror"})


def literal_topics(services: Sequence[Service], topics: Sequence[Topic]) -> Iterator[Remark]:
    """Every string in the packages of the system that is the name of one of its topics, outside of declarations."""
    known = {topic.name: "the declaration's .name" for topic in topics}
    known |= {topic.dead_letters: "the declaration's .dead_letters" for topic in topics}
    for file in _files(services, topics):
        try:
            tree = ast.parse(file.read_text())
        except (SyntaxError, UnicodeDecodeError):  # Python itself says so, when it is run
            continue
        for constant in _constants(tree):
            if constant.value in known:
                place = f"{_shown(file)}:{constant.lineno}"
                problem = f"{constant.value!r} is typed here, and a renamed topic would leave it behind"
                yield Remark("literals", place, problem, f"use {known[str(constant.value)]} instead")


def _constants(tree: ast.AST) -> Iterator[ast.Constant]:
    """Strings that are values: no documentation, and nothing inside of a declaration."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _DECLARING:
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node
        yield from _constants(node)


def _name(function: ast.expr) -> str:
    match function:
        case ast.Subscript(value=inner):
            return _name(inner)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def _files(services: Sequence[Service], topics: Sequence[Topic]) -> list[Path]:
    """The sources of the packages that handlers and classes come from."""
    modules = {handler.function.__module__ for service in services for handler in service.handlers}
    modules |= {of.__module__ for topic in topics for of in topic.contracts}
    modules |= {service.web.partition(":")[0] for service in services if service.web is not None}
    found: set[Path] = set()
    for package in {name.partition(".")[0] for name in modules} - {"millstream"}:
        file = getattr(sys.modules.get(package), "__file__", None)
        if file is None:
            continue
        path = Path(file)
        found |= set(path.parent.rglob("*.py")) if path.name == "__init__.py" else {path}
    return sorted(found)


def _shown(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)
