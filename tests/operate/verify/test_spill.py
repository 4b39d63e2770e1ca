"""What the auditor has seen lies in a database: any value comes back, and memory does not grow with the log."""

import threading
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from millstream.declare import Envelope, Event, Topic
from millstream.declare.invariant import Case, Cases, Causes
from millstream.operate.verify import Auditor
from millstream.operate.verify.spill import Spill

NOW = datetime.now(UTC)


class Paid(Event, key="order_id", namespace="spilled"):
    order_id: str
    amount: int


Topic("spilled.payments", Paid)


def envelope(number: int, cause: str | None = None) -> Envelope:
    return Envelope(
        id=f"id-{number}", type="spilled.Paid", source="test", time=NOW, key=f"o-{number}", topic="spilled.payments",
        partition=0, offset=number, correlation_id="c", causation_id=cause,
    )  # fmt: skip


def test_any_value_comes_back_also_of_classes_that_no_module_has():
    class Inner(Event, key="of", namespace="spilled"):
        of: str

    spill, lock = Spill(), threading.Lock()
    values: list[Any] = [None, Paid(order_id="o", amount=3), Inner(of="o"), {"a": [Inner(of="p")]}, lock, lambda: 1]
    assert [spill.unpack(spill.pack(value)) for value in values] == values
    assert spill.unpack(spill.pack(lock)) is lock


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log():
    payments = Cases("payment", Paid)

    @payments.invariant
    def has_an_amount(case: Case) -> list[str]:
        return [] if all(paid.amount for paid in case[Paid]) else ["it has none"]

    audit = Auditor((payments, Causes(Paid)))

    def see(first: int, last: int) -> None:
        for number in range(first, last):
            audit.see(Paid(order_id=f"o-{number}", amount=number % 5_000), envelope(number, f"id-{number // 2}"))

    see(0, 3_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        see(3_000, 12_000)
        found = list(audit.findings(at_rest=True))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 9,000 events more; kept in Python they would be at least 4 MB. SQLite's own cache is bounded apart from this.
    assert after - before < 1_500_000
    assert [violation.key for violation in found] == ["o-0", "o-10000", "o-5000"]
    assert audit.cases == 12_000
