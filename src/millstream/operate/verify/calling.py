"""Calls of the functions that make up an invariant: their answers are checked, failures are told with a remedy."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from traceback import walk_tb
from typing import Any, cast

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import Case, Cases, Fact
from millstream.declare.personal import MASK, has_personal
from millstream.telemetry import still_alive

_AMOUNTS = (int, Decimal)
"""Types that add up to the same in any order."""


class Broken(Exception):
    """A function gave no answer to go by: why, and what to do. `key`, `evidence`: what it was asked about."""

    def __init__(self, why: str, key: str = "", evidence: tuple[Fact, ...] = ()) -> None:
        super().__init__(why)
        self.key, self.evidence = key, evidence


def sentences(check: Callable[[Any], Iterable[str]], about: Any, contracts: Iterable[type[Contract]]) -> Iterator[str]:
    """Yield the sentences of a check. `contracts`: the classes whose events it may look at. Raises `Broken`."""
    still_alive()  # many cases take their time; only one that does not end is a hang
    try:
        said: Any = check(about)
        # A str is an iterable of str, too: each letter would be a violation.
        if isinstance(said, str) or not isinstance(said, Iterable):
            raise Broken(f"it returned {_kind(said)}: yield a sentence for each violation, and nothing for none")
        for sentence in cast("Iterable[Any]", said):
            if not isinstance(sentence, str):
                raise Broken(f"it yielded {_kind(sentence)}: yield a sentence for each violation")
            yield sentence
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"it {_raised(error, contracts)}. Mend it: a check answers whatever it is given") from None


def amounts(part: Callable[[Case], Mapping[str, int]], case: Case, owner: Cases) -> Mapping[str, int]:
    """Return what a case adds to the accounts of a `Total`, by the part for this kind of case. Raises `Broken`."""
    still_alive()
    try:
        moved: Any = part(case)
        if isinstance(moved, Mapping):
            found = cast("Mapping[Any, Any]", moved)
            if all(isinstance(account, str) and isinstance(amount, _AMOUNTS) for account, amount in found.items()):
                return found
        why = (
            f"returned {_kind(moved)}, and not whole numbers by account: return such as {{'p-1': 3}}, or {{}} for none"
        )
    except Exception as error:
        why = f"{_raised(error, owner.contracts)}. Mend it: a part answers whatever it is given"
    raise Broken(f"its part for {owner.name!r} {why}", case.key, case.evidence)


def filed(owner: Cases, event: Contract, envelope: Envelope) -> tuple[str, Fact] | None:
    """Under which key an event is kept, and what of it; `None` where it is nobody's. Raises `Broken`."""
    kind, does = type(event), "by"
    try:
        key: Any = owner.key(event, envelope)
        if key is None:
            return None
        if isinstance(key, str):
            does, keep = "keep", owner.keep.get(kind)
            return key, Fact.of(envelope, event if keep is None else keep(event))
        why = f"returned {_kind(key)}: return the key of its case as text, or None where it is nobody's"
    except Exception as error:
        why = f"{_raised(error, [kind])}. Mend it: it answers for every event"
    raise Broken(f"{does}[{kind.__name__}] of {owner.name!r} {why}", envelope.key or envelope.id, (Fact.of(envelope),))


def _raised(error: Exception, contracts: Iterable[type[Contract]]) -> str:
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)][1:]
    where = f" at {frames[0][0]}:{frames[0][1]}" if frames else ""
    # The text may quote an event.
    text = MASK if any(map(has_personal, contracts)) else str(error)
    return f"raised {type(error).__name__}{where}{f': {text}' if text else ''}"


def _kind(answer: Any) -> str:
    return "None" if answer is None else f"a value of type {type(answer).__name__}"
