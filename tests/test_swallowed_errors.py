"""No error is swallowed in silence: who catches one does something, or says beside it why not."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "millstream"
FILES = sorted(SOURCE.rglob("*.py"))


def deals_with_it(caught: ast.ExceptHandler) -> bool:
    """Whether it does anything but go on: raises, logs, looks at the error, or answers something worked out instead."""
    names = (node.id for statement in caught.body for node in ast.walk(statement) if isinstance(node, ast.Name))
    return not all(map(_goes_on, caught.body)) or (caught.name is not None and caught.name in names)


def _goes_on(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Break():
            return True
        case ast.Return(value=value):
            return value is None or _is_fixed(value)
        case ast.Assign(value=value):
            return _is_fixed(value)
        case ast.If(body=body, orelse=orelse):
            return all(map(_goes_on, [*body, *orelse]))
        case _:
            return False


def _is_fixed(value: ast.expr) -> bool:
    """Whether it is the same whatever happened: a constant, an empty container, a name."""
    if isinstance(value, ast.List | ast.Tuple | ast.Set | ast.Dict):
        return not list(ast.iter_child_nodes(value))[:-1]
    return isinstance(value, ast.Constant | ast.Name)


def is_suppress(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(called, "id", getattr(called, "attr", "")) == "suppress"


def swallowed(text: str) -> Iterator[tuple[int, str]]:
    """Where an error is swallowed without a word: the line, and what it says."""
    lines = text.splitlines()

    def says_why(first: int, last: int) -> bool:
        return any("#" in line for line in lines[max(0, first - 1) : last])

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            # The line before the `except`, its own, and its body.
            assert node.end_lineno is not None
            if not deals_with_it(node) and not says_why(node.lineno, node.end_lineno):
                yield node.lineno, lines[node.lineno - 1].strip()
        elif isinstance(node, ast.With | ast.AsyncWith):
            suppresses = any(is_suppress(item.context_expr) for item in node.items)
            if suppresses and not says_why(node.lineno - 1, node.body[0].lineno):
                yield node.lineno, lines[node.lineno - 1].strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_error_is_swallowed_without_a_word(path: Path):
    found = [f"{path}:{line}: {what}" for line, what in swallowed(path.read_text())]
    remedy = "log it, raise, answer something else, or say beside it (in a comment) why it may be dropped"
    assert not found, f"{remedy}: {found}"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("try:\n    a()\nexcept OSError:\n    pass\n", 1),
        ("try:\n    a()\nexcept OSError:\n    return_value = None\n", 1),
        ("try:\n    a()\nexcept OSError:\n    pass  # it is gone already\n", 0),
        ("try:\n    a()\nexcept OSError:\n    log.warning('gone')\n", 0),
        ("try:\n    a()\nexcept OSError as error:\n    tell(error)\n", 0),
        ("for a in b:\n    try:\n        a()\n    except OSError as error:\n        continue\n", 1),
        ("try:\n    a()\nexcept OSError:\n    answer = []\n", 1),
        ("try:\n    a()\nexcept OSError:\n    answer = other()\n", 0),
        ("try:\n    a()\nexcept OSError:\n    raise\n", 0),
        ("with suppress(OSError):\n    a()\n", 1),
        ("with contextlib.suppress(OSError):  # it is gone already\n    a()\n", 0),
    ],
)
def test_what_counts_as_swallowed(text: str, count: int):
    assert len(list(swallowed(text))) == count
