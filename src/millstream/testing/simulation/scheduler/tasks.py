"""Tasks behind a client's calls: generators that are resumed in virtual time, and what they wait for.

A task yields seconds to sleep, or something `Awaited`; it is resumed with the value, or with the error raised in it.
"""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Steps = Generator[Any, Any, T]
"""A task's generator, and what it returns in the end."""
After = Callable[[float, Callable[[], None]], None]
"""Calls something after that many seconds, if the process still lives then."""


class Awaited(Generic[T]):
    """A value that comes later, or an error in its place; whichever is first counts."""

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self.value: Any = None
        self._then: list[Callable[[], None]] = []

    def then(self, action: Callable[[], None]) -> None:
        """Call `action` when it is done; at once if it is."""
        if self.done:
            action()
        else:
            self._then.append(action)

    def succeed(self, value: T) -> None:
        if not self.done:
            self.done, self.value = True, value
            self._call_back()

    def fail(self, error: BaseException) -> None:
        if not self.done:
            self.done, self.error = True, error
            self._call_back()

    def result(self) -> T:
        """The value, or the error raised."""
        assert self.done
        if self.error is not None:
            raise self.error
        return self.value

    def _call_back(self) -> None:
        waiting, self._then = self._then, []
        for action in waiting:
            action()


class Signal:
    """A repeated notification: `yield signal.next()` waits for the next one."""

    def __init__(self) -> None:
        self._next: Awaited[None] = Awaited()

    def next(self) -> Awaited[None]:
        return self._next

    def notify(self) -> None:
        notified, self._next = self._next, Awaited()
        notified.succeed(None)


class Task(Awaited[T]):
    """A generator that is resumed until it has returned or raised: then it is done."""

    def __init__(self, after: After, steps: Steps[T]) -> None:
        super().__init__()
        self._after = after
        self._steps = steps
        self._resumed = 0
        self._resume(None)

    def cancel(self) -> None:
        """Go no further."""
        if not self.done:
            self._resumed += 1
            self.fail(Cancelled())
            self._steps.close()

    def _resume(self, awaited: Awaited[Any] | None) -> None:
        if self.done:
            return
        self._resumed += 1
        resumed = self._resumed
        try:
            if awaited is not None and awaited.error is not None:
                found = self._steps.throw(awaited.error)
            else:
                found = self._steps.send(awaited.value if awaited is not None else None)
        except StopIteration as stopped:
            self.succeed(stopped.value)
            return
        except Exception as error:
            self.fail(error)
            return
        if isinstance(found, Awaited):
            found.then(lambda: self._resume(found) if resumed == self._resumed else None)
        else:
            self._after(found, lambda: self._resume(None) if resumed == self._resumed else None)


class Cancelled(Exception):
    """The task was cancelled."""
