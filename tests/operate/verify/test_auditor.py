"""The laws of the auditor's core: what it says depends on what was written, not on how it was read."""

import random
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.operate.verify.story import BEGAN, Log

from millstream import Event, Topic
from millstream.declare.invariant import MAX_KEPT, Account, Case, Cases, Causes, Total, topics_of
from millstream.errors import DeclarationError
from millstream.operate.verify import Auditor
from millstream.operate.verify.findings import MAX_EVIDENCE


class Opened(Event, key="box"):
    box: str


class Moved(Event, key="box"):
    box: str
    shelf: str
    quantity: int


class Closed(Event, key="box"):
    box: str


opened = Topic("auditor.opened", Opened)
moved = Topic("auditor.moved", Moved)
closed = Topic("auditor.closed", Closed)

boxes = Cases("box", Opened, Moved, Closed)
shelves = Total("shelf", {boxes: lambda box: {one.shelf: one.quantity for one in box[Moved]}})
INVARIANTS = (boxes, shelves, Causes(Moved, Closed, known=[Opened]))


@boxes.invariant
def closes_once(box: Case) -> Iterable[str]:
    if box.count(Closed) > 1:
        yield f"it is closed {box.count(Closed)} times"
    if box.at_rest and box[Opened] and not box[Closed]:
        yield "it is not closed"


@shelves.invariant
def never_empty(shelf: Account) -> Iterable[str]:
    if shelf.balance < 0:
        yield f"{-shelf.balance} too few"


names, shelf_names = st.sampled_from("ab"), st.sampled_from("xy")
EVENTS = st.one_of(
    st.builds(Opened, box=names),
    st.builds(Moved, box=names, shelf=shelf_names, quantity=st.integers(-5, 5)),
    st.builds(Closed, box=names),
)
RECORDS = st.lists(st.tuples(EVENTS, st.integers(0, 1), st.integers(-1, 12)), max_size=14)


def log_of(records: list[tuple[Event, int, int]]) -> Log:
    """Causes are ids of some of the events, before or after, of none, or missing."""
    log = Log()
    for event, partition, cause in records:
        log.write(event, cause=None if cause < 0 else f"id-{cause}", partition=partition)
    return log


def verdict(audit: Auditor) -> list[str]:
    return sorted(repr(found) for found in audit.violations(at_rest=True))


@given(RECORDS, st.integers(0, 1_000))
def test_the_order_between_partitions_and_when_one_asks_make_no_difference(
    records: list[tuple[Event, int, int]], seed: int
):
    log, one, other = log_of(records), Auditor(INVARIANTS), Auditor(INVARIANTS)
    for event, envelope in log.written:
        one.see(event, envelope)
    for event, envelope in log.interleaved(random.Random(seed)):
        other.see(event, envelope)
        list(other.violations(at_rest=seed % 2 == 0))
    assert verdict(one) == verdict(other)


@given(RECORDS, st.integers(0, 14))
def test_a_record_that_is_seen_again_changes_nothing(records: list[tuple[Event, int, int]], back: int):
    log, once, twice = log_of(records), Auditor(INVARIANTS), Auditor(INVARIANTS)
    assert all(once.see(*written) for written in log.written)
    for written in log.written:
        twice.see(*written)
    assert not any(twice.see(*written) for written in log.written[back:])
    assert (verdict(once), once.events) == (verdict(twice), twice.events)


@given(RECORDS)
def test_what_is_final_stays_whatever_comes(records: list[tuple[Event, int, int]]):
    audit = Auditor(INVARIANTS)
    before: set[tuple[str, str]] = set()
    for event, envelope in log_of(records).written:
        audit.see(event, envelope)
        now = {found[:2] for found in audit.violations()}
        assert before <= now
        before = now
    assert before <= {found[:2] for found in audit.violations(at_rest=True)}


def test_evidence_is_what_was_looked_at_and_bounded():
    log, audit = Log(), Auditor((boxes,))
    log.write(Moved(box="a", shelf="x", quantity=1))
    for _ in range(MAX_KEPT + 5):
        log.write(Closed(box="a"))
    for event, envelope in log.written:
        audit.see(event, envelope)
    [found] = audit.violations()
    assert found.sentence == f"it is closed {MAX_KEPT + 5} times"
    assert [fact.place for fact in found.evidence] == [
        f"auditor.closed[0]@{offset} {found.evidence[0].type} id-{offset + 1}" for offset in range(MAX_KEPT)
    ]


def test_a_total_is_proved_by_what_moved_it_most():
    log, audit = Log(), Auditor(INVARIANTS)
    for number in range(MAX_EVIDENCE + 5):
        log.write(Moved(box=f"box-{number}", shelf="x", quantity=-number))
    for event, envelope in log.written:
        audit.see(event, envelope)
    [found] = [found for found in audit.violations(at_rest=True) if found.invariant == "shelf: never empty"]
    assert (found.key, len(found.evidence)) == ("x", MAX_EVIDENCE)
    assert found.evidence[0].kept.quantity == -(MAX_EVIDENCE + 4)


def test_a_total_sums_all_events_of_a_case_though_checks_see_the_first_few():
    seen: set[int] = set()
    racks = Cases("rack", Moved, by={Moved: lambda one, envelope: one.shelf})
    whole = Total("rack", {racks: lambda rack: {rack.key: sum(one.quantity for one in rack[Moved])}})
    whole.invariant(never_empty)

    @racks.invariant
    def looks(rack: Case) -> Iterable[str]:
        seen.add(len(rack[Moved]))
        return ()

    log, audit = Log(), Auditor((racks, whole))
    for quantity in [1] * (MAX_KEPT * 2) + [-MAX_KEPT] * 3:
        log.write(Moved(box="a", shelf="x", quantity=quantity))
    for event, envelope in log.written[:-1]:
        audit.see(event, envelope)
    assert list(audit.violations(at_rest=True)) == []
    audit.see(*log.written[-1])
    [found] = audit.violations(at_rest=True)
    assert (found.key, found.sentence) == ("x", f"{MAX_KEPT} too few")
    assert seen == {MAX_KEPT}


def test_what_is_quiet_goes_by_the_moment_where_the_time_of_an_event_cannot_be_right():
    log, audit = Log(), Auditor(INVARIANTS)
    log.write(Moved(box="a", shelf="x", quantity=-1), cause="nobody")
    [(event, envelope)] = log.written
    audit.see(event, replace(envelope, time=BEGAN + timedelta(days=30_000)), BEGAN)
    assert audit.waiting(BEGAN) == ("shelf: never empty",)
    assert (list(audit.violations(quiet_since=BEGAN)), audit.under_way(BEGAN)) == ([], 1)
    since = BEGAN + timedelta(seconds=1)
    assert (audit.waiting(since), audit.under_way(since)) == ((), 0)
    assert [found.invariant for found in audit.violations(quiet_since=since)] == [
        "shelf: never empty",
        "every step has its cause",
    ]


def test_what_was_quiet_for_long_is_at_rest_though_others_are_not():
    log, audit = Log(), Auditor(INVARIANTS)
    for box in ("a", "b"):
        log.write(Opened(box=box))
    for event, envelope in log.written:
        audit.see(event, envelope)
    assert [found.key for found in audit.violations(quiet_since=BEGAN + timedelta(seconds=1))] == ["a"]
    assert audit.under_way(BEGAN + timedelta(seconds=1)) == 1
    assert [found.key for found in audit.violations(quiet_since=BEGAN)] == []


def test_a_cause_may_be_gone_where_old_records_are():
    log = Log()
    log.write(Opened(box="a"))
    log.write(Moved(box="a", shelf="x", quantity=1), cause="long-gone")
    for cut, expected in (([], 1), (["auditor.opened"], 0), (["auditor.closed"], 0)):
        audit = Auditor((INVARIANTS[2],), cut=cut)
        for event, envelope in log.written:
            audit.see(event, envelope)
        assert len(list(audit.violations(at_rest=True))) == expected, cut


def test_declarations_that_cannot_work_are_refused():
    with pytest.raises(DeclarationError, match="name the class among its classes"):
        Cases("box", Opened, keep={Closed: lambda event: event})
    with pytest.raises(DeclarationError, match="two invariants named closes_once"):
        boxes.invariant(closes_once)
    with pytest.raises(DeclarationError, match=r"'box' has the invariant .* write a plain function"):
        boxes.invariant(partial(closes_once))

    async def opens_once(box: Case) -> Iterable[str]:
        return ()

    with pytest.raises(DeclarationError, match=r"opens_once.* write a plain function"):
        boxes.invariant(opens_once)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DeclarationError, match="not among the invariants"):
        Auditor((shelves,))
    assert topics_of(INVARIANTS) == (opened, moved, closed)
