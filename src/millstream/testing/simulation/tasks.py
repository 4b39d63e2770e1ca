"""What goes on behind a client's calls: generators that the world resumes, and what they wait for.

A task yields seconds to sleep, or something `Awaited`; it is resumed with the value, or with the error raised in it.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from millstream.testing.simulation.lives import Life

T = TypeVar("T")

Steps = Generator[Any, Any, T]
"""A task's generator, and what it returns in the end."""


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
            self._tell()

    def fail(self, error: BaseException) -> None:
        if not self.done:
            self.done, self.error = True, error
            self._tell()

    def result(self) -> T:
        """The value, or the error raised."""
        assert self.done
        if self.error is not None:
            raise self.error
        return self.value

    def _tell(self) -> None:
        waiting, self._then = self._then, []
        for action in waiting:
            action()


class Signal:
    """Something that changes again and again: `yield signal.next()` waits for the next time."""

    def __init__(self) -> None:
        self._next: Awaited[None] = Awaited()

    def next(self) -> Awaited[None]:
        return self._next

    def give(self) -> None:
        given, self._next = self._next, Awaited()
        given.succeed(None)


class Task(Awaited[T]):
    """A generator on its way, in one life of a process; done when it has returned or raised."""

    def __init__(self, life: "Life", steps: Steps[T]) -> None:
        super().__init__()
        self._life = life
        self._steps = steps
        self._turn = 0
        self._resume(None)

    def cancel(self) -> None:
        """Go no further."""
        if not self.done:
            self._turn += 1
            self.fail(Cancelled())
            self._steps.close()

    def _resume(self, awaited: Awaited[Any] | None) -> None:
        if self.done:
            return
        self._turn += 1
        turn = self._turn
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
            found.then(lambda: self._resume(found) if turn == self._turn else None)
        else:
            self._life.after(found, lambda: self._resume(None) if turn == self._turn else None)


class Cancelled(Exception):
    """The task was told to go no further."""
