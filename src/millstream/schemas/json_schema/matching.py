"""Pairing off: of things that go with some others, as many as possible, each once.

Which parts of an `anyOf` stand for which of another is such a question; taking the first that goes is not enough.
"""

from collections import deque
from collections.abc import Callable, Sequence


def pairs(goes_with: Sequence[Sequence[int]], step: Callable[[], None]) -> dict[int, int]:
    """The most pairs of left and right, by left, where `goes_with` has the rights that each left goes with.

    `step` is called again and again, and may raise when it has been too often.

    >>> pairs([[0, 1], [0]], step=lambda: None)
    {0: 1, 1: 0}
    """
    right_of: dict[int, int] = {}
    left_of: dict[int, int] = {}
    for start in range(len(goes_with)):
        came_from: dict[int, int] = {}
        waiting = deque([start])
        while waiting:
            left = waiting.popleft()
            free = None
            for right in goes_with[left]:
                step()
                if right in came_from:
                    continue
                came_from[right] = left
                if right not in left_of:
                    free = right
                    break
                waiting.append(left_of[right])
            if free is not None:
                _turn(free, start, came_from, right_of, left_of)
                break
    return dict(sorted(right_of.items()))


def _turn(right: int, start: int, came_from: dict[int, int], right_of: dict[int, int], left_of: dict[int, int]) -> None:
    """Give a right that is free to who can take it, and what that one had to the next, back to the start."""
    while True:
        left = came_from[right]
        before = right_of.get(left)
        right_of[left], left_of[right] = right, left
        if left == start or before is None:
            return
        right = before
