"""Decides how a saga goes on, from how it stands and what is heard. Pure: no clock, no store, no topic.

Going forward, one step is asked for at a time. Once a step fails or is not answered in time, the saga is cancelled: the
last step that was done, or whose outcome is unknown, is undone and confirmed before the one before it. An answer that
changes nothing is passed over.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from msgspec.structs import replace

from millstream.declare import Backoff
from millstream.errors import Rejected
from millstream.patterns.saga.state import Happened, SagaState, Status, StepState

MAX_HISTORY = 100


class Outcome(Enum):
    """The report of an event on a step."""

    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"


class Act(Enum):
    """The messages that a saga sends."""

    ASK = "ask"
    UNDO = "undo"
    COMPLETE = "complete"
    CANCEL = "cancel"


class Action(NamedTuple):
    """One thing to say; of which step, where it is about one."""

    act: Act
    step: int = -1


class Planned(NamedTuple):
    """The parts of a step that decisions need.

    - `undo_within`: there where it can be undone, and `undo_needs` the names of what its undo is made of.
    - `former`: names that it had.
    """

    name: str
    within: timedelta
    undo_within: timedelta | None = None
    undo_needs: frozenset[str] = frozenset()
    former: tuple[str, ...] = ()


class Plan(NamedTuple):
    """The parts of a saga that decisions need: its steps, how often a command that must succeed is sent, when again."""

    name: str
    steps: tuple[Planned, ...]
    attempts: int
    backoff: Backoff


class Next(NamedTuple):
    """The state of a saga after a decision, the messages that it sends, and how long it waits for the answer.

    The wait counts for a new turn only.
    """

    state: SagaState
    actions: tuple[Action, ...] = ()
    wait: timedelta | None = None


def begin(plan: Plan, known: dict[str, bytes], now: datetime, correlation_id: str) -> Next:
    """A new saga, which asks for its first step."""
    steps = tuple(StepState(name=step.name) for step in plan.steps)
    state = SagaState(
        phase="running", steps=steps, correlation_id=correlation_id, known=known, started_at=now, changed_at=now
    )
    course = _Course(plan, state, now)
    course.note("started")
    course.ask(0)
    return course.taken()


def hear(
    plan: Plan,
    state: SagaState,
    step: int,
    outcome: Outcome,
    now: datetime,
    *,
    reply: dict[str, bytes],
    detail: str | None = None,
) -> Next | None:
    """After an answer of a step; `None` where it changes nothing. `reply` is what to keep of the answer.

    Raises `Rejected` where the saga has other steps than when it began, or no undo for what must be undone.
    """
    course = _Course(plan, state, now)
    status = state.steps[step].status
    match outcome, status:
        case Outcome.DONE, "asked":
            course.done(step, reply)
        case Outcome.DONE, "undoing" | "undo_failed":
            # The undo that is on its way takes it back, too.
            course.note("late done", step)
        case Outcome.DONE, "undone":
            course.done_after_all(step)
        case Outcome.DONE, "failed" if plan.steps[step].undo_within is not None:
            course.done_after_all(step)
        case Outcome.FAILED, "asked":
            course.mark(step, "failed")
            course.note("failed", step, detail)
            course.cancel(detail or f"{plan.steps[step].name} failed")
        case Outcome.UNDONE, "undoing" | "undo_failed":
            course.mark(step, "undone")
            course.note("undone", step)
            course.compensate()
        case Outcome.UNDO_FAILED, "undoing" if not state.parked:
            course.undo_failed(step, detail)
        case _:
            return None
    return course.taken()


def overdue(plan: Plan, state: SagaState, turn: int, now: datetime) -> Next | None:
    """After the wait of `turn` is over; `None` where the saga has gone on since. A parked one tries again.

    Raises `Rejected` where the saga has other steps than when it began, or no undo for what must be undone.
    """
    step = state.current
    if turn != state.turn or step is None:
        return None
    course = _Course(plan, state, now)
    forward = state.steps[step].status == "asked"
    if state.parked:
        course.try_again(step)
    elif state.steps[step].status != "undo_failed":
        course.note("no answer", step)
    if forward and plan.steps[step].undo_within is not None:
        course.mark(step, "unresolved")
        course.cancel(f"{plan.steps[step].name}: no answer within {plan.steps[step].within}")
    elif course.state.tries >= plan.attempts:
        course.park(step)
    elif forward:
        course.ask(step)
    else:
        course.undo(step)
    return course.taken()


def forget(plan: Plan, state: SagaState) -> SagaState:
    """Without what it will not need again: once it has ended, it can only undo what is done late."""
    match state.phase:
        case "completed":
            return replace(state, known={})
        case "cancelled":
            asked = [planned for step, planned in zip(state.steps, plan.steps, strict=True) if step.status != "waiting"]
            needed = frozenset[str]().union(*(planned.undo_needs for planned in asked))
            return replace(state, known={name: reply for name, reply in state.known.items() if name in needed})
        case _:
            return state


class _Course:
    """The way from one state to the next."""

    def __init__(self, plan: Plan, state: SagaState, now: datetime) -> None:
        if not _same_steps(state, plan):
            raise Rejected(
                "changed",
                f"this saga began with the steps {', '.join(step.name for step in state.steps)}; let {plan.name!r} "
                "have them again until it has ended, and declare the new steps as a saga of another name",
            )
        self.plan, self.state, self.now = plan, state, now
        self.actions: list[Action] = []
        self.wait: timedelta | None = None

    def taken(self) -> Next:
        state = replace(self.state, changed_at=self.now, history=self.state.history[-MAX_HISTORY:])
        return Next(state, tuple(self.actions), self.wait)

    def note(self, what: str, step: int | None = None, detail: str | None = None) -> None:
        name = None if step is None else self.plan.steps[step].name
        line = Happened(at=self.now, what=what, step=name, detail=detail)
        self.state = replace(self.state, history=(*self.state.history, line))

    def mark(self, step: int, status: Status) -> None:
        steps = list(self.state.steps)
        steps[step] = replace(steps[step], status=status)
        self.state = replace(self.state, steps=tuple(steps))

    def ask(self, step: int) -> None:
        self._send(Action(Act.ASK, step), "asked", self.plan.steps[step].within)

    def undo(self, step: int) -> None:
        planned = self.plan.steps[step]
        if planned.undo_within is None:
            raise Rejected(
                "changed",
                f"{planned.name} must be undone, and had an undo= when this saga began; let {self.plan.name!r} have it "
                "again until it has ended, and declare the new steps as a saga of another name",
            )
        self._send(Action(Act.UNDO, step), "undoing", planned.undo_within)

    def done(self, step: int, reply: dict[str, bytes]) -> None:
        self.mark(step, "done")
        self.note("done", step)
        self.state = replace(self.state, known={**self.state.known, **reply})
        if step + 1 < len(self.plan.steps):
            self.ask(step + 1)
        else:
            self._end("completed", Act.COMPLETE)

    def done_after_all(self, step: int) -> None:
        self.mark(step, "done")
        self.note("late done", step)
        if self.state.current is None:
            self.compensate()

    def undo_failed(self, step: int, detail: str | None) -> None:
        self.mark(step, "undo_failed")
        self.note("undo failed", step, detail)
        if self.state.tries >= self.plan.attempts:
            self.park(step)
        else:
            self._turn(timedelta(seconds=self.plan.backoff(self.state.tries)))

    def cancel(self, reason: str) -> None:
        self.state = replace(self.state, phase="cancelling", reason=reason)
        self.compensate()

    def compensate(self) -> None:
        steps = self.state.steps
        left = [index for index, step in enumerate(steps) if step.status in ("done", "unresolved")]
        if left:
            self.undo(left[-1])
        elif self.state.phase == "cancelling":
            self._end("cancelled", Act.CANCEL)
        else:
            self._turn(None, current=None, parked=False)

    def park(self, step: int) -> None:
        self.note("parked", step)
        self._turn(None, parked=True)

    def try_again(self, step: int) -> None:
        self.note("tried again", step)
        self.state = replace(self.state, parked=False, tries=0)

    def _send(self, action: Action, status: Status, wait: timedelta | None) -> None:
        again = self.state.current == action.step and self.state.steps[action.step].status in (status, "undo_failed")
        self.mark(action.step, status)
        self.note("asked" if action.act is Act.ASK else "undo asked", action.step)
        self.actions.append(action)
        self._turn(wait, current=action.step, tries=self.state.tries + 1 if again else 1, parked=False)

    def _end(self, phase: Any, act: Act) -> None:
        self.note(phase, None, self.state.reason)
        self.actions.append(Action(act))
        self._turn(None, phase=phase, current=None, parked=False)

    def _turn(self, wait: timedelta | None, **changes: Any) -> None:
        self.wait = wait
        self.state = replace(self.state, turn=self.state.turn + 1, **changes)


def _same_steps(state: SagaState, plan: Plan) -> bool:
    return len(state.steps) == len(plan.steps) and all(
        step.name in (planned.name, *planned.former) for step, planned in zip(state.steps, plan.steps, strict=True)
    )
