"""The position of a partition whose events end in any order.

Kafka keeps one offset for a partition: here the lowest unfinished event. What is finished beyond it travels with the
offset, in the metadata that Kafka stores beside it, so that a successor repeats none of it.
"""

from collections.abc import Set
from itertools import pairwise

MAX_DONE = 3_900
"""Characters for the done ranges beyond an offset: a note has further parts, and a broker stores 4,095 in all."""


class Watermark:
    """The finished and unfinished events of one partition. Offsets are taken in rising order.

    - `start`, `done`: what the group has committed, if anything.

    >>> partition = Watermark(10, "1,2")            # 10 is unfinished, 11 and 12 are done
    >>> [offset for offset in range(10, 15) if partition.take(offset)]
    [10, 13, 14]
    >>> partition.progress({14})
    (10, '1,2,1,1')
    >>> partition.finish({10, 14})
    >>> partition.progress(set())
    (13, '1,1')
    """

    def __init__(self, start: int | None, done: str = "") -> None:
        self._end = start or 0
        self._known = _read(self._end, done)
        # Each with the offset that was taken before it: whether anything done lies between two that are not.
        self._unfinished: dict[int, int] = {}

    def take(self, offset: int) -> bool:
        """Take an event. Return False where a predecessor has finished it."""
        before, self._end = self._end - 1, offset + 1
        while self._known and self._known[0][1] <= offset:
            self._known.pop(0)
        if self._known and self._known[0][0] <= offset:
            return False
        self._unfinished[offset] = before
        return True

    @property
    def unfinished(self) -> int:
        """Return how many events are taken and not finished."""
        return len(self._unfinished)

    def finish(self, offsets: Set[int]) -> None:
        """Mark these as done; that is committed."""
        for offset in offsets:
            del self._unfinished[offset]

    @property
    def end(self) -> int:
        """The offset after the last that was taken."""
        return self._end

    def progress(self, finished: Set[int]) -> tuple[int, str]:
        """The offset to commit as if `finished` were done too, and what is done beyond it.

        The latter may be longer than a broker stores; `fitting` says how many may be finished at a time.
        """
        unfinished = [offset for offset in self._unfinished if offset not in finished]
        first = unfinished[0] if unfinished else self._end
        done = [
            (low + 1, high)
            for low, high in pairwise(unfinished)
            # Offsets between two neighbours are transaction markers and compacted records.
            if self._unfinished[high] != low
        ]
        if unfinished and self._end > unfinished[-1] + 1:
            done.append((unfinished[-1] + 1, self._end))
        done += [(max(low, self._end), high) for low, high in self._known if high > self._end]
        return first, _write(first, done)

    def fitting(self, finished: Set[int]) -> Set[int]:
        """Return those of `finished`, from the lowest on, whose metadata a broker keeps now: nearly always all."""
        rising = sorted(finished)
        while rising and len(self.progress(set(rising))[1]) > MAX_DONE:
            rising = rising[: len(rising) // 2]
        return set(rising)


def _write(first: int, done: list[tuple[int, int]]) -> str:
    """Ranges as the lengths of alternating runs from `first` on: so many unfinished, so many done, …"""
    if not done:
        return ""
    runs, at = [], first
    for low, high in done:
        runs += [low - at, high - low]
        at = high
    return ",".join(map(str, runs))


def _read(first: int, text: str) -> list[tuple[int, int]]:
    """The ranges; none where the text is none of ours."""
    parts = text.split(",")
    if not all(map(str.isdecimal, parts)):
        return []
    runs = [int(part) for part in parts]
    done, at = [], first
    for gap, length in zip(runs[::2], runs[1::2], strict=False):
        done.append((at + gap, at + gap + length))
        at += gap + length
    return done
