"""Operators that remember nothing."""

from collections.abc import Callable, Iterable
from typing import Any

from millstream.streams.operators.base import Operator, Task
from millstream.streams.records import Record


class FlatMap(Operator):
    """Forwards each key and value that a function makes of a record; map, filter and new keys are cases of it."""

    def __init__(self, task: Task, make: Callable[[Any, Any], Iterable[tuple[Any, Any]]]) -> None:
        super().__init__(task)
        self._make = make

    def process(self, record: Record) -> None:
        for key, value in self._make(record.key, record.value):
            self.forward(Record(key, value, record.time))


class Branch(Operator):
    """Forwards a record to the child of the first condition that holds; the last child takes the rest."""

    def __init__(self, task: Task, conditions: tuple[Callable[[Any, Any], bool], ...]) -> None:
        super().__init__(task)
        self._conditions = conditions

    def process(self, record: Record) -> None:
        index = next((at for at, holds in enumerate(self._conditions) if holds(record.key, record.value)), None)
        self.children[len(self._conditions) if index is None else index].process(record)
