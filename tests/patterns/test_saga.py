"""How a saga goes, with nothing running: every order of answers, duplicates and timeouts."""

from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.patterns.saga_story import SagaStory
from tests.patterns.trips import Trips

from millstream.declare import Command, Event, Personal, Service, Topic, minutes
from millstream.errors import DeclarationError, Rejected
from millstream.patterns.saga import Saga, Story, Undo
from millstream.patterns.saga.decide import Outcome, Plan, Planned, begin, hear, overdue

TRIPS = Trips("pure")
START = TRIPS.BookTrip(trip="t", city="Rome")
FLIGHT = TRIPS.BookFlight(trip="t", city="Rome")
HOTEL = TRIPS.BookHotel(trip="t", city="Rome", seat="1A")
PAY = TRIPS.Pay(trip="t", price=200)
NO_HOTEL = TRIPS.CancelHotel(trip="t")
BOOKED = TRIPS.TripBooked(trip="t", seat="1A")
MINUTE = timedelta(minutes=1)


def no_flight(reason: str) -> Any:
    return TRIPS.CancelFlight(trip="t", reason=reason)


def cancelled(reason: str) -> Any:
    return TRIPS.TripCancelled(trip="t", reason=reason)


def fact(name: str) -> Any:
    return getattr(TRIPS, name)(trip="t")


def counted(state: str) -> float:
    labels = {"service": TRIPS.service.name, "saga": "trips", "state": state}
    return REGISTRY.get_sample_value("millstream_sagas_total", labels) or 0.0


@pytest.fixture
def story() -> SagaStory:
    return SagaStory(TRIPS.service, "trips")


def test_steps_are_asked_for_one_after_the_other_and_filled_from_what_is_known(story: SagaStory):
    assert story.hear(START) == [FLIGHT]
    assert story.hear(fact("FlightBooked")) == [HOTEL]
    assert story.hear(fact("HotelBooked")) == [PAY]
    assert story.hear(fact("Paid")) == [BOOKED]
    assert (story.state("t").shown, story.timers.waiting) == ("completed", [])


@pytest.mark.scenario(16)
def test_two_starters_create_one_saga(story: SagaStory):
    assert story.hear(START, TRIPS.BookTrip(trip="t", city="Paris")) == [FLIGHT]
    story.hear(fact("FlightBooked"), fact("HotelBooked"), fact("Paid"))
    assert story.hear(START) == []


@pytest.mark.scenario(17)
def test_an_event_for_an_absent_saga_is_passed_over(story: SagaStory):
    before = counted("unknown")
    for name in ("FlightBooked", "HotelRefused", "FlightCancelled", "Paid"):
        assert story.hear(fact(name)) == []
    assert story.store.get("t") is None
    assert counted("unknown") == before + 4
    assert story.hear(START) == [FLIGHT]


@pytest.mark.scenario(17)
def test_a_reply_that_was_not_asked_for_yet_is_passed_over(story: SagaStory):
    story.hear(START)
    assert story.hear(fact("HotelBooked"), fact("Paid"), fact("HotelCancelled")) == []
    assert story.hear(fact("FlightBooked")) == [HOTEL]


@pytest.mark.scenario(19)
def test_compensation_in_reverse_order_each_confirmed_before_the_next(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelBooked"))
    assert story.hear(fact("PaymentRefused")) == [NO_HOTEL]
    assert story.hear(fact("FlightCancelled")) == [], "not asked for yet"
    assert story.hear(fact("HotelCancelled")) == [no_flight("no money")]
    assert story.hear(fact("FlightCancelled")) == [cancelled("no money")]
    assert story.state("t").shown == "cancelled"


@pytest.mark.scenario(19)
def test_compensation_is_idempotent(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelRefused"))
    assert story.hear(fact("HotelRefused"), fact("FlightBooked")) == []
    assert story.hear(fact("FlightCancelled")) == [cancelled("full")]
    assert story.hear(fact("FlightCancelled"), fact("HotelRefused")) == []


def test_a_step_that_is_not_answered_is_undone_anyway(story: SagaStory):
    story.hear(START, fact("FlightBooked"))
    assert story.pass_time(MINUTE) == [NO_HOTEL]
    (after, *_) = story.hear(fact("HotelCancelled"))
    assert after == no_flight("BookHotel: no answer within 0:01:00")


@pytest.mark.scenario(18)
def test_timeout_and_reply_race_converges_with_the_reply_first(story: SagaStory):
    story.hear(START)
    (stale,) = story.timers.waiting
    assert story.hear(fact("FlightBooked")) == [HOTEL]
    assert story.hear(stale) == [], "it was set for the turn before"
    assert story.hear(fact("HotelBooked"), fact("Paid"))[-1] == BOOKED


@pytest.mark.scenario(18)
def test_timeout_and_reply_race_converges_with_the_timeout_first(story: SagaStory):
    story.hear(START)
    assert story.pass_time(MINUTE) == [no_flight("BookFlight: no answer within 0:01:00")]
    assert story.hear(fact("FlightBooked")) == [], "the undo that is on its way takes it back, too"
    assert story.hear(fact("FlightCancelled")) == [cancelled("BookFlight: no answer within 0:01:00")]


def test_a_late_done_triggers_its_undo_after_the_end(story: SagaStory):
    story.hear(START)
    story.pass_time(MINUTE)
    story.hear(fact("FlightCancelled"))
    assert story.hear(fact("FlightBooked")) == [no_flight("BookFlight: no answer within 0:01:00")]
    assert story.hear(fact("FlightCancelled")) == [], "the end was said already"
    assert (story.state("t").shown, story.timers.waiting) == ("cancelled", [])


def test_a_late_done_while_another_step_is_undone_waits_for_its_turn(story: SagaStory):
    story.hear(START, fact("FlightBooked"))
    story.pass_time(MINUTE)
    reason = "BookHotel: no answer within 0:01:00"
    assert story.hear(fact("HotelCancelled")) == [no_flight(reason)]
    assert story.hear(fact("HotelBooked")) == []
    assert story.hear(fact("FlightCancelled")) == [NO_HOTEL]
    assert story.hear(fact("HotelCancelled")) == [cancelled(reason)]


@pytest.mark.scenario(19)
def test_a_failing_compensation_is_retried_then_parked_and_goes_on_when_it_is_confirmed(story: SagaStory):
    before = counted("parked")
    story.hear(START, fact("FlightBooked"), fact("HotelRefused"))
    for wait in (0.1, 0.2):
        assert story.hear(fact("FlightNotCancelled"), fact("FlightNotCancelled")) == []
        assert story.pass_time(timedelta(seconds=wait)) == [no_flight("full")]
    assert story.hear(fact("FlightNotCancelled")) == []
    assert (story.state("t").shown, story.timers.waiting) == ("parked", [])
    assert story.history("t")[-2:] == ["BookFlight undo failed", "BookFlight parked"]
    assert counted("parked") == before + 1
    assert story.hear(fact("FlightCancelled")) == [cancelled("full")]
    assert story.state("t").shown == "cancelled"


def test_a_compensation_that_is_not_answered_is_asked_for_again_then_parked(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelRefused"))
    assert [story.pass_time(MINUTE) for _ in range(3)] == [[no_flight("full")], [no_flight("full")], []]
    assert story.state("t").shown == "parked"


def test_a_step_that_cannot_be_undone_is_asked_for_until_it_is_parked(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelBooked"))
    assert [story.pass_time(MINUTE) for _ in range(3)] == [[PAY], [PAY], []]
    assert story.state("t").shown == "parked"
    assert story.hear(fact("PaymentRefused")) == [NO_HOTEL]
    assert story.state("t").shown == "cancelling"


FACTS = [
    *("FlightBooked", "FlightRefused", "FlightCancelled", "FlightNotCancelled"),
    *("HotelBooked", "HotelRefused", "HotelCancelled", "Paid", "PaymentRefused"),
]
ANSWERS = {
    "BookFlight": ("FlightBooked", "FlightRefused"),
    "BookHotel": ("HotelBooked", "HotelRefused"),
    "Pay": ("Paid", "PaymentRefused"),
    "CancelFlight": ("FlightCancelled",),
    "CancelHotel": ("HotelCancelled",),
}


def test_a_parked_saga_that_is_told_that_its_wait_is_over_tries_anew(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelRefused"))
    for _ in range(3):
        story.pass_time(MINUTE)
    turn = story.state("t").turn
    (timer,) = story.handler.timers
    assert story.hear(timer(saga_id="t", turn=turn - 1)) == []
    assert story.hear(timer(saga_id="t", turn=turn)) == [no_flight("full")]
    assert (story.state("t").shown, story.state("t").tries) == ("cancelling", 1)
    assert story.hear(fact("FlightCancelled")) == [cancelled("full")]


@pytest.mark.scenario(18)
@pytest.mark.scenario(19)
@given(st.data())
def test_whatever_the_order_duplication_and_delay_it_ends_and_undoes_in_reverse(data: st.DataObject):
    """Participants answer each command when they get to it, as dice say the first time, and the same ever after."""
    story = SagaStory(TRIPS.service, "trips")
    decided: dict[str, str] = {}
    on_their_way = [fact for said in story.hear(START) for fact in _answers(said, decided, data)]
    for _ in range(data.draw(st.integers(0, 30))):
        moves = ["time", *(["reply"] if on_their_way else [])]
        if data.draw(st.sampled_from(moves)) == "time":
            said = story.pass_time(MINUTE)
        else:
            place = data.draw(st.integers(0, len(on_their_way) - 1))
            name = on_their_way[place]
            if not data.draw(st.booleans()):  # else it comes once more
                on_their_way.pop(place)
            said = story.hear(fact(name))
        on_their_way += [fact for command in said for fact in _answers(command, decided, data)]
    # What is on its way arrives in the end, and a saga that is parked is confirmed.
    for _ in range(60):
        pending, on_their_way = on_their_way, []
        said = story.hear(*map(fact, pending))
        if not pending:
            said += story.pass_time(MINUTE)
        if story.state("t").parked:
            said += story.hear(fact(_answer_awaited(story, decided)))
        on_their_way += [answer for command in said for answer in _answers(command, decided, data)]
        if not on_their_way and story.state("t").current is None:
            break
    state = story.state("t")
    assert state.phase in ("completed", "cancelled") and state.current is None, "it ends"
    names = [type(said).__name__ for said in story.said]
    ends = [name for name in names if name.startswith("Trip")]
    assert len(ends) == 1, "once"
    after_end = names[names.index(ends[0]) + 1 :]
    assert all(name in ("CancelFlight", "CancelHotel") for name in after_end), "but undos of what was done late"
    if ends == ["TripCancelled"]:
        late = Counter(line.step for line in state.history if line.what == "late done")
        undos = [name for name in names[: names.index(ends[0])] if name.startswith("Cancel")]
        if not late:
            assert undos == sorted(undos, reverse=True), "the hotel before the flight"
        assert all(step.status in ("waiting", "failed", "undone") for step in state.steps), "nothing stays done"
    else:
        assert not any(name.startswith("Cancel") for name in names)


def _answers(said: Any, decided: dict[str, str], data: st.DataObject) -> list[str]:
    name = type(said).__name__
    if name not in ANSWERS:
        return []
    if name not in decided:
        decided[name] = data.draw(st.sampled_from(ANSWERS[name]))
    return [decided[name]]


def _answer_awaited(story: SagaStory, decided: dict[str, str]) -> str:
    commands = [type(said).__name__ for said in story.said if type(said).__name__ in ANSWERS]
    return decided[commands[-1]]


def test_a_saga_whose_steps_changed_while_it_runs_is_refused_with_the_remedy():
    now = SagaStory(TRIPS.service, "trips").timers.now
    old = Plan("trips", (Planned("A", MINUTE),), 3, float)
    state = begin(old, {}, now, "c-1").state
    with pytest.raises(Rejected, match="began with the steps A; let 'trips' have them again"):
        hear(old._replace(steps=(Planned("B", MINUTE),)), state, 0, Outcome.DONE, now, reply={})


def heard(plan: Plan, *moves: tuple[int, Outcome] | str) -> Any:
    """How a saga of this plan stands after these answers and `"time"` that passed."""
    now = SagaStory(TRIPS.service, "trips").timers.now
    state = begin(plan, {}, now, "c-1").state
    for move in moves:
        found = _moved(plan, state, move)
        assert found is not None
        state = found.state
    return state


def _moved(plan: Plan, state: Any, move: tuple[int, Outcome] | str) -> Any:
    if isinstance(move, str):
        return overdue(plan, state, state.turn, state.changed_at)
    return hear(plan, state, *move, state.changed_at, reply={})


UNANSWERED = [(0, Outcome.DONE), "time"]
UNDONE = [*UNANSWERED, (1, Outcome.UNDONE)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(UNANSWERED, "time", id="while it is undone"),
        pytest.param([*UNANSWERED, (1, Outcome.UNDO_FAILED)], "time", id="after its undo failed"),
        pytest.param([*UNANSWERED, "time", "time"], "time", id="after it was parked"),
        pytest.param([*UNDONE, (1, Outcome.DONE)], (0, Outcome.UNDONE), id="after it was done late"),
        pytest.param([*UNDONE, (0, Outcome.UNDONE)], (1, Outcome.DONE), id="when it is done after the end"),
    ],
)
def test_a_step_that_must_be_undone_and_lost_its_undo_is_refused_with_the_remedy(before: Any, after: Any):
    old = Plan("trips", (Planned("A", MINUTE, MINUTE), Planned("B", MINUTE, MINUTE)), 2, float)
    new = old._replace(steps=(old.steps[0], Planned("B", MINUTE)))
    state = heard(old, *before)
    with pytest.raises(Rejected, match="B must be undone, and had an undo= when this saga began; let 'trips' have it"):
        _moved(new, state, after)
    assert _moved(old, state, after) is not None, "with its undo it goes on"


# Other sagas, and bad use


class Ask(Command, key="id"):
    id: str


class Begin(Ask):
    amount: int


class Act(Ask):
    amount: int


class ActOn(Ask):
    colour: str


class ActWrongly(Ask):
    amount: str


class Revoke(Ask): ...


class Other(Ask): ...


class Happened(Event, key="id"):
    id: str


class Acted(Happened): ...


class ActFailed(Happened): ...


class Revoked(Happened): ...


class Ended(Happened): ...


class Refused(Happened):
    reason: str


class Homeless(Ask): ...


class ActRefused(Happened):
    reason: Annotated[str, Personal]


class OtherRefused(Happened):
    reason: Annotated[str, Personal] | None


class UndoAct(Ask):
    amount: int


class Done(Happened): ...


class Undone(Happened): ...


TOPIC = Topic(
    "bad.use",
    Begin,
    Act,
    ActOn,
    ActWrongly,
    Revoke,
    Other,
    Acted,
    ActFailed,
    Revoked,
    Ended,
    Refused,
    ActRefused,
    OtherRefused,
    UndoAct,
    Done,
    Undone,
    partitions=2,
)


def unannotated(story: Story):
    return Act(id=story.id, amount=1)


def saga() -> Saga:
    return Saga("bad", starts=Begin)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: saga().completes(Ended), "Saga 'bad' has no step: add"),
        (lambda: saga().step(ActOn, done=Acted).completes(Ended), r"nothing fills ActOn.colour: no field 'colour' in "),
        (lambda: saga().step(ActOn, done=Acted).completes(Ended), r"by a function: def make\(story: Story\) -> ActOn"),
        (lambda: saga().step(ActWrongly, done=Acted).completes(Ended), "amount is str, and Begin.amount is int"),
        (lambda: saga().step(unannotated, done=Acted).completes(Ended), "unannotated must be an event or command"),
        (lambda: saga().step(Act, done=Acted, undo=Revoke), r"has no outcome.*undo=Undo\(Revoke, done="),
        (
            lambda: saga().step(Act, done=Acted).step(Other, done=Acted).completes(Ended),
            "step Other: Acted says done, and something else already",
        ),
        (lambda: saga().step(Act, done=Acted, failed=Acted).completes(Ended).cancels(Refused), "Acted says failed"),
        (
            lambda: saga().step(Act, done=Acted).step(Act, done=Revoked).completes(Ended),
            "two steps of one command",
        ),
        (lambda: saga().step(Act, done=Acted, failed=ActFailed).completes(Ended), r"add \.cancels\(TheEvent\)"),
        (lambda: saga().step(Act, done=Acted), r"add \.completes\(TheEvent\)"),
        (
            lambda: saga().step(Act, done=Acted).step(Other, done=Revoked, failed=ActFailed).completes(Ended),
            "give Act an undo=, or put it last",
        ),
        (lambda: saga().step(Act, done=Acted, within=minutes(0)).completes(Ended), "leaves no time|more than nothing"),
        (lambda: saga().step(Act, done=Acted, within=60), r"step Act: within=60 is no .*: write within=seconds\(60\)"),
        (
            lambda: saga().step(Act, done=Acted, undo=Undo(Revoke, done=Revoked, within=1.5)),
            r"step Act: within=1.5 is no timedelta: write within=seconds\(1.5\)",
        ),
        (lambda: saga().step(Act, done=Acted, within="1h"), "within='1h' is no timedelta"),
        (lambda: saga().step(Homeless, done=Acted).completes(Ended), "Homeless lives on no topic"),
        (lambda: saga().step(Act, done=Homeless).completes(Ended), "Homeless lives on no topic"),
        (lambda: Saga("bad", starts=Begin, attempts=0), "at least 1"),
        (
            lambda: (
                saga()
                .step(Act, done=Acted, undo=Undo(Revoke, done=Revoked, within=minutes(0)))
                .completes(Ended)
                .cancels(Refused)
            ),
            "step Act: within=",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_declared(declare: Any, message: str):
    with pytest.raises(DeclarationError, match=message):
        declare().mount(Service("bad"))


def test_a_saga_that_is_mounted_twice():
    once = saga().step(Act, done=Acted).completes(Ended)
    once.mount(Service("first"))
    with pytest.raises(DeclarationError, match=r"Saga 'bad' is mounted on first already: .* Mount it once"):
        once.mount(Service("second"))


def test_a_saga_whose_state_and_commands_would_not_commit_together():
    loose = Service("loose", delivery="at_least_once")
    with pytest.raises(DeclarationError, match='loose has delivery="at_least_once", and its state must commit with'):
        saga().step(Act, done=Acted).completes(Ended).mount(loose)


def test_a_command_of_another_key_is_set_aside_and_an_event_of_one_is_not():
    def act_elsewhere(story: Story) -> Act:
        return Act(id="elsewhere", amount=1)

    def revoke_elsewhere(story: Story) -> Revoke:
        return Revoke(id="elsewhere")

    def end_elsewhere(story: Story) -> Ended:
        return Ended(id="elsewhere")

    acting = Service("acting")
    saga().step(act_elsewhere, done=Acted).completes(Ended).mount(acting)
    with pytest.raises(
        Rejected, match="Saga 'bad', step act_elsewhere: its Act has the key 'elsewhere', the saga is 'x'"
    ) as found:
        SagaStory(acting, "bad").hear(Begin(id="x", amount=1))
    assert found.value.reason == "foreign_key"

    revoking = Service("revoking")
    undo = Undo(revoke_elsewhere, done=Revoked)
    saga().step(Act, done=Acted, failed=ActFailed, undo=undo).completes(end_elsewhere).cancels(Refused).mount(revoking)
    story = SagaStory(revoking, "bad")
    assert story.hear(Begin(id="x", amount=1), Acted(id="x"))[-1] == Ended(id="elsewhere"), "nobody answers an end"
    story.hear(Begin(id="y", amount=1))
    with pytest.raises(Rejected, match="step Act, undo: its Revoke has the key 'elsewhere'"):
        story.pass_time(timedelta(hours=1))


def mounted(saga: Saga) -> SagaStory:
    service = Service("acting")
    saga.mount(service)
    return SagaStory(service, saga.name)


def known(story: SagaStory) -> set[str]:
    return {name.rpartition(".")[2] for name in story.state("x").known}


def test_a_completed_saga_keeps_nothing_of_what_it_heard(story: SagaStory):
    story.hear(START, fact("FlightBooked"), fact("HotelBooked"))
    assert len(story.state("t").known) == 3
    assert story.hear(fact("Paid")) == [BOOKED]
    assert story.state("t").known == {}
    assert story.hear(START, fact("Paid"), fact("HotelRefused"), fact("FlightCancelled")) == [], "nor needs it"


def test_a_cancelled_saga_keeps_what_a_late_undo_is_made_of():
    undo = Undo(UndoAct, done=Revoked)
    story = mounted(
        saga()
        .step(Act, done=Acted, undo=undo)
        .step(Other, done=Done, failed=ActFailed)
        .completes(Ended)
        .cancels(Refused)
    )
    story.hear(Begin(id="x", amount=5), Acted(id="x"))
    assert known(story) == {"Begin", "Acted"}
    assert story.hear(ActFailed(id="x"), Revoked(id="x"))[-1] == Refused(id="x", reason="Other failed")
    assert known(story) == {"Begin"}
    assert story.hear(Acted(id="x")) == [UndoAct(id="x", amount=5)]


def test_a_cancelled_saga_keeps_all_that_a_function_may_ask_for():
    def revoke(story: Story) -> UndoAct:
        return UndoAct(id=story.id, amount=story[Begin].amount)

    story = mounted(
        saga()
        .step(Act, done=Acted, undo=Undo(revoke, done=Revoked))
        .step(Other, done=Done, failed=ActFailed)
        .completes(Ended)
        .cancels(Refused)
    )
    story.hear(Begin(id="x", amount=5), Acted(id="x"), ActFailed(id="x"), Revoked(id="x"))
    assert known(story) == {"Begin", "Acted"}
    assert story.hear(Acted(id="x")) == [UndoAct(id="x", amount=5)]


def test_a_cancelled_saga_keeps_nothing_for_steps_that_were_never_asked_for():
    story = mounted(
        saga()
        .step(Other, done=Done, failed=ActFailed, undo=Undo(Revoke, done=Revoked))
        .step(Act, done=Acted, undo=Undo(UndoAct, done=Undone))
        .completes(Ended)
        .cancels(Refused)
    )
    story.hear(Begin(id="x", amount=5), ActFailed(id="x"))
    assert (story.state("x").shown, known(story)) == ("cancelled", set())


def test_a_personal_reason_is_not_shown():
    story = mounted(
        saga()
        .step(Act, done=Acted, failed=ActFailed, undo=Undo(Revoke, done=Revoked, failed=ActRefused))
        .step(Other, done=Done, failed=OtherRefused)
        .completes(Ended)
        .cancels(Refused)
    )
    story.hear(Begin(id="x", amount=5), Acted(id="x"), OtherRefused(id="x", reason="Ada Lovelace is blind"))
    story.hear(ActRefused(id="x", reason="Ada Lovelace is deaf"))
    assert story.state("x").reason == "Other failed"
    assert story.history("x")[-2:] == ["Act undo asked", "Act undo failed"]
    assert "Ada" not in repr(story.state("x"))
    assert story.hear(Revoked(id="x")) == [Refused(id="x", reason="Other failed")]
