"""Every bound of a wait stands in one table: `millstream/timeouts.py`."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "millstream"
OTHERS = ("timeouts.py", "local/", "testing/")
"""The table, and what runs beside services: the local platform and the tools of tests have time-outs of their own."""
WORDS = {"TIMEOUT", "WITHIN", "PATIENCE", "GRACE"}


def bounds(tree: ast.Module) -> list[str]:
    """Constants of a module that bound a wait, and numbers that are defaults of a `timeout`."""
    names = [
        node.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    found = [name for name in names if WORDS & {*name.split("_")}]
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            given = positional[len(positional) - len(node.defaults) :]
            pairs = [*zip(given, node.defaults, strict=True), *zip(node.kwonlyargs, node.kw_defaults, strict=True)]
            found += [
                f"{argument.arg}={default.value}"
                for argument, default in pairs
                if "timeout" in argument.arg and isinstance(default, ast.Constant) and (default.value or 0) >= 1
            ]
    return found


def test_bounds_of_waits_stand_in_one_table():
    elsewhere = {
        path.relative_to(SOURCE).as_posix(): names
        for path in sorted(SOURCE.rglob("*.py"))
        if not path.relative_to(SOURCE).as_posix().startswith(OTHERS) and (names := bounds(ast.parse(path.read_text())))
    }
    assert elsewhere == {}


def test_a_bound_is_found():
    source = "STOP_WITHIN = 3.0\nEVERY = 1.0\ndef ask(topic, timeout=10.0, *, request_timeout=3): ...\n"
    assert bounds(ast.parse(source)) == ["STOP_WITHIN", "timeout=10.0", "request_timeout=3"]
