"""Findings of an audit: what is not as it must be, and what cannot be judged."""

from typing import NamedTuple

from millstream.declare.invariant import Cases, Fact, Total

MAX_EVIDENCE = 12
"""Facts that a finding shows."""


class Violation(NamedTuple):
    """A violation: the key, a sentence, and the events that prove it."""

    invariant: str
    key: str
    sentence: str
    evidence: tuple[Fact, ...] = ()

    def __str__(self) -> str:
        return f"{self.invariant}: {self.key}: {self.sentence}"


class Unjudged(NamedTuple):
    """An invariant that is itself broken: of which thing it says nothing, why, and which events it was asked about."""

    invariant: str
    key: str
    sentence: str
    evidence: tuple[Fact, ...] = ()

    def __str__(self) -> str:
        places = "".join(f"; {fact.place}" for fact in self.evidence)
        return f"{self.invariant}: {self.key}: cannot be judged: {self.sentence}{places}"


def named(owner: Cases | Total, check: str) -> str:
    """An invariant as findings name it."""
    return f"{owner.name}: {check}"
