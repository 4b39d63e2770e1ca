"""No test asserts speed by the clock: what a busy machine takes longer for is not broken. Benchmarks measure speed."""

import ast
from collections.abc import Iterator
from pathlib import Path

LEAST_SECONDS = 10
"""An upper bound tells a hang from an answer, so it leaves room for a machine that many share."""

LEAST_WAIT = 60
"""The least bound of a wait; a wait ends with its condition, so a test that passes does not take longer for it."""
WAITS = {"wait_until", "eventually"}

CLOCKS = {"monotonic", "perf_counter", "process_time", "time"}


def _elapsed(node: ast.expr) -> bool:
    """True of `time.monotonic() - began` and its like."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Call)):
        return False
    asked = node.left.func
    return (asked.attr if isinstance(asked, ast.Attribute) else getattr(asked, "id", "")) in CLOCKS


def _tight(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Assert():
            for compared in (part for part in ast.walk(node.test) if isinstance(part, ast.Compare)):
                sides = [compared.left, *compared.comparators]
                for left, operator, right in zip(sides, compared.ops, sides[1:], strict=False):
                    upper = isinstance(operator, ast.Lt | ast.LtE) and _elapsed(left)
                    if upper and isinstance(right, ast.Constant) and float(str(right.value)) < LEAST_SECONDS:
                        yield compared
        case ast.Call(func=ast.Name(name), keywords=keywords) if name in WAITS:
            for keyword in keywords:
                bound = keyword.value
                if (
                    keyword.arg in ("seconds", "within")
                    and isinstance(bound, ast.Constant)
                    and bound.value < LEAST_WAIT
                ):
                    yield node
        case _:
            pass


def too_tight(text: str) -> list[str]:
    return [ast.unparse(found) for node in ast.walk(ast.parse(text)) for found in _tight(node)]


def test_the_rule_finds_what_it_is_for():
    assert too_tight("assert time.monotonic() - began < 2\n")
    assert too_tight("assert (\n    0.3 < time.time() - asked < 3.5\n), why")
    assert not too_tight("assert 0.3 < time.monotonic() - began < 30")
    assert too_tight("wait_until(lambda: done, seconds=30, what='it')")
    assert too_tight("eventually(lambda: done, within=30)")
    assert not too_tight("wait_until(lambda: done, seconds=60, what='it')")


def test_no_upper_bound_on_elapsed_time_is_tight():
    tests = Path(__file__).parent
    found = {
        str(file.relative_to(tests)): lines
        for file in sorted(tests.rglob("*.py"))
        if file != Path(__file__) and (lines := too_tight(file.read_text()))
    }
    assert not found, (
        f"wait for a condition, or give at least {LEAST_SECONDS} s, and {LEAST_WAIT} s to what is waited for: {found}"
    )
