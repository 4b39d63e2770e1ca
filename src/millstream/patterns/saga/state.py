"""The state that is kept of one saga."""

from datetime import datetime
from typing import Annotated, Literal

from millstream.declare import Personal, Value

Phase = Literal["running", "cancelling", "completed", "cancelled"]
Status = Literal["waiting", "asked", "done", "failed", "unresolved", "undoing", "undo_failed", "undone"]


class StepState(Value):
    """The state of one step. `unresolved`: no answer came in time."""

    name: str
    status: Status = "waiting"


class Happened(Value):
    """One line of a saga's history: what happened, to which step."""

    at: datetime
    what: str
    step: str | None = None
    detail: str | None = None


class SagaState(Value):
    """One saga.

    - `current`: the step whose answer is awaited, by its place; none when nothing is.
    - `tries`: how often the current command was sent.
    - `turn`: counts up with every command sent; a timer of another turn is stale.
    - `parked`: its current command was sent as often as it may be; it goes on when the answer comes, or a person asks.
    - `reason`: why it is cancelled.
    - `correlation_id`: of the story that it is part of.
    - `known`: the starting event and the replies by the names of their classes, each with its schema.
    - `history`: the latest lines.
    """

    phase: Phase
    steps: tuple[StepState, ...]
    current: int | None = None
    tries: int = 0
    turn: int = 0
    parked: bool = False
    reason: str | None = None
    correlation_id: str
    known: Annotated[dict[str, bytes], Personal]
    started_at: datetime
    changed_at: datetime
    history: tuple[Happened, ...] = ()

    @property
    def shown(self) -> str:
        """Its state in one word: `parked` before anything else."""
        return "parked" if self.parked else self.phase
