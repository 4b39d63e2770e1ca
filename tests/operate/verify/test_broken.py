"""An invariant that is itself broken: it is named with the thing and the events, and the others are judged."""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.operate.verify.story import Log

from millstream import Event, Personal, Topic
from millstream.declare.invariant import Account, Case, Cases, Invariants, Total
from millstream.errors import DeclarationError
from millstream.operate.verify import Auditor, Unjudged, Violation


class Sent(Event, key="parcel"):
    parcel: str
    grams: int = 1


class Addressed(Event, key="parcel"):
    parcel: str
    street: Annotated[str, Personal]


Topic("broken.parcels", Sent, Addressed)


def seen(invariants: Invariants, *events: Event) -> Auditor:
    log, audit = Log(), Auditor(invariants)
    for event in events:
        log.write(event)
    for event, envelope in log.written:
        audit.see(event, envelope)
    return audit


def parcels(check: Callable[[Case], Any], *contracts: type[Event], **options: Any) -> Cases:
    cases = Cases("parcel", *(contracts or (Sent,)), **options)
    check.__name__ = "is_fine"
    cases.invariant(check)
    return cases


def heavy(case: Case) -> Any:
    """Raises for one parcel, after it has said something of it."""
    for sent in case[Sent]:
        if sent.grams > 5:
            yield "it is heavy"
            raise KeyError(f"{sent.grams} g")


def test_a_check_that_raises_is_named_with_the_thing_and_the_events():
    audit = seen((parcels(heavy),), Sent(parcel="a"), Sent(parcel="b", grams=9))
    violation, unjudged = audit.findings(at_rest=True)
    assert isinstance(violation, Violation)
    assert violation[:3] == ("parcel: is fine", "b", "it is heavy"), "what it said before is said"
    assert isinstance(unjudged, Unjudged)
    assert unjudged[:2] == ("parcel: is fine", "b")
    assert unjudged.sentence.startswith(f"it raised KeyError at {__file__}:")
    assert ": '9 g'. Mend it" in unjudged.sentence
    assert [fact.place for fact in unjudged.evidence] == [f"broken.parcels[0]@1 {unjudged.evidence[0].type} id-1"]


def test_a_test_does_not_pass_over_it():
    with pytest.raises(DeclarationError, match=r"parcel: is fine: b: cannot be judged: .*broken\.parcels\[0\]@0"):
        list(seen((parcels(heavy),), Sent(parcel="b", grams=9)).violations(at_rest=True))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("it is wrong", "it returned a value of type str: yield a sentence"),
        (None, "it returned None: yield a sentence"),
        (True, "it returned a value of type bool: yield a sentence"),
        (["it is wrong", 3], "it yielded a value of type int: yield a sentence"),
        ([None], "it yielded None: yield a sentence"),
    ],
)
def test_an_answer_that_is_no_list_of_sentences_is_refused(answer: Any, said: str):
    *_, unjudged = seen((parcels(lambda case: answer),), Sent(parcel="a")).findings(at_rest=True)
    assert isinstance(unjudged, Unjudged)
    assert unjudged.sentence.startswith(said)
    assert [fact.id for fact in unjudged.evidence] == ["id-0"], "all of the case, where it looked at nothing"


def test_what_an_error_quotes_is_not_shown_where_events_hold_personal_data():
    def quoting(case: Case) -> Any:
        raise ValueError(f"{case[Addressed]} is nowhere")

    [unjudged] = seen((parcels(quoting, Addressed),), Addressed(parcel="a", street="Baker Street")).findings()
    assert "raised ValueError at" in unjudged.sentence
    assert "Baker" not in str(unjudged)


def too_many(case: Case) -> Any:
    if case.count(Sent) > 1:
        yield "it is sent twice"
    if case.at_rest and not case[Sent]:
        yield "it is not sent"


def initial(sent: Sent, *_: Any) -> str:
    """Raises where there is none."""
    return sent.parcel[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": {Sent: initial}}, "by[Sent] of 'parcel' raised IndexError at "),
        ({"by": {Sent: lambda sent, _: sent.parcel or 7}}, "by[Sent] of 'parcel' returned a value of type int: return"),
        ({"keep": {Sent: initial}}, "keep[Sent] of 'parcel' raised IndexError at "),
    ],
    ids=["by raises", "by answers no text", "keep raises"],
)
def test_where_an_event_cannot_be_filed_nothing_counts_as_missing(options: Any, said: str):
    declared = parcels(too_many, Sent, Addressed, **options)
    events = Addressed(parcel="a", street=""), Sent(parcel=""), Sent(parcel="b"), Sent(parcel="b")
    unjudged, violation = seen((declared,), *events).findings(at_rest=True)
    assert isinstance(unjudged, Unjudged)
    assert unjudged.invariant == "parcel: is fine"
    assert unjudged.sentence.startswith(said)
    assert [fact.id for fact in unjudged.evidence] == ["id-1"]
    assert violation[:3] == ("parcel: is fine", "b", "it is sent twice"), "what no event can mend is wrong in any case"


def weighed(declared: Cases, part: Callable[[Case], Any]) -> Total:
    total = Total("grams", {declared: part})

    @total.invariant
    def few(account: Account) -> Any:
        if account.balance > 5:
            yield f"it is {account.balance}"

    return total


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda case: {"all": 6 // len(case[Addressed])}, "its part for 'parcel' raised ZeroDivisionError at "),
        (lambda case: None, "its part for 'parcel' returned None, and not whole numbers by account"),
        (
            lambda case: {"all": "6"},
            "its part for 'parcel' returned a value of type dict, and not whole numbers by account",
        ),
        (
            lambda case: {None: 6},
            "its part for 'parcel' returned a value of type dict, and not whole numbers by account",
        ),
    ],
)
def test_a_total_with_a_part_that_is_broken_is_not_judged(part: Any, said: str):
    declared = Cases("parcel", Sent, Addressed)
    [unjudged] = seen((declared, weighed(declared, part)), Sent(parcel="a")).findings(at_rest=True)
    assert isinstance(unjudged, Unjudged)
    assert unjudged[:2] == ("grams: few", "a")
    assert unjudged.sentence.startswith(said)


def test_a_total_over_cases_that_lack_an_event_is_not_judged():
    declared = Cases("parcel", Sent, by={Sent: initial})
    stock = weighed(declared, lambda case: {"all": sum(sent.grams for sent in case[Sent])})
    audit = seen((declared, stock), Sent(parcel=""), Sent(parcel="a", grams=9))
    [unjudged] = audit.findings(at_rest=True)
    assert isinstance(unjudged, Unjudged)
    assert unjudged[0] == "grams: few"
    assert unjudged.sentence.startswith("by[Sent]")
    assert [*audit.findings(at_rest=True)] == [unjudged]


def test_a_check_of_a_total_that_is_broken_is_named_with_what_moved_the_account():
    declared = Cases("parcel", Sent)
    total = Total("grams", {declared: lambda case: {sent.parcel: Decimal(sent.grams) for sent in case[Sent]}})  # pyright: ignore[reportArgumentType]

    @total.invariant
    def few(account: Account) -> Any:
        return "it is much" if account.balance > 5 else ()

    [unjudged] = seen((declared, total), Sent(parcel="a"), Sent(parcel="b", grams=9)).findings(at_rest=True)
    assert isinstance(unjudged, Unjudged)
    assert unjudged[:2] == ("grams: few", "b")
    assert unjudged.sentence.startswith("it returned a value of type str")
    assert [fact.id for fact in unjudged.evidence] == ["id-1"]
