"""Sorted state of operators, with a way back for each record."""

from bisect import bisect_left, bisect_right, insort
from typing import Any

Key = tuple[Any, ...]
"""The key of an entry: a tuple whose parts of one position can be compared with each other."""

_ABSENT: Any = object()


class SortedStore:
    """Entries by key, in the order of their keys. Changes since `keep` can be undone.

    >>> store = SortedStore("counts")
    >>> store.put(("k", 10), 1)
    >>> store.keep()
    >>> store.put(("k", 5), 2)
    >>> store.range(("k",), ("k", 10))
    [(('k', 5), 2)]
    >>> store.undo()
    >>> store.below(("k",))
    [(('k', 10), 1)]
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: dict[Key, Any] = {}
        self._keys: list[Key] = []
        self._before: list[tuple[Key, Any]] = []

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key, default: Any = None) -> Any:
        return self._values.get(key, default)

    def put(self, key: Key, value: Any) -> None:
        self._before.append((key, self._values.get(key, _ABSENT)))
        self._set(key, value)

    def delete(self, key: Key) -> None:
        """Forget an entry, if there is one."""
        if key in self._values:
            self._before.append((key, self._values[key]))
            self._set(key, _ABSENT)

    def set(self, key: Key, value: Any) -> None:
        """Put `value` under `key`; `None` deletes the entry."""
        if value is None:
            self.delete(key)
        else:
            self.put(key, value)

    def number(self) -> int:
        """Return a number that no earlier call returned, one higher each time."""
        number: int = self.get(("number",), 0)
        self.put(("number",), number + 1)
        return number

    def range(self, first: Key, last: Key) -> list[tuple[Key, Any]]:
        """Return the entries from `first` on, up to `last` exclusively, as they are now."""
        between = self._keys[bisect_left(self._keys, first) : bisect_left(self._keys, last)]
        return [(key, self._values[key]) for key in between]

    def below(self, prefix: Key) -> list[tuple[Key, Any]]:
        """Return the entries whose keys begin with `prefix`, as they are now."""
        begin = bisect_left(self._keys, prefix)
        end = bisect_right(self._keys, prefix, lo=begin, key=lambda key: key[: len(prefix)])
        return [(key, self._values[key]) for key in self._keys[begin:end]]

    def first(self, prefix: Key) -> Key | None:
        """Return the first key that begins with `prefix`, if there is one."""
        begin = bisect_left(self._keys, prefix)
        found = self._keys[begin] if begin < len(self._keys) else None
        return found if found is not None and found[: len(prefix)] == prefix else None

    def keep(self) -> None:
        """Keep what was changed: the record is done."""
        self._before.clear()

    def undo(self) -> None:
        """Take back what was changed since `keep`."""
        while self._before:
            self._set(*self._before.pop())

    def _set(self, key: Key, value: Any) -> None:
        if value is _ABSENT:
            del self._values[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value
