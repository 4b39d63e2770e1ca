"""One breaking change: where it is, which rule it breaks, and what to do about it."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["backward", "forward"]
"""`backward`: the new code could not read old data; `forward`: running code could not read new data."""

_MISFIT = re.compile(
    r"\{errorType:['\"](?P<kind>\w+)['\"], description:['\"](?P<said>.*)['\"], "
    r"additionalInfo:['\"](?P<detail>.*)['\"]\}\Z",
    re.DOTALL,
)
_PATH = re.compile(r"path '([^']*)'")
_DIRECTIONS: dict[Direction, dict[str, str]] = {
    "backward": {"reader": "new", "writer": "old"},
    "forward": {"reader": "old", "writer": "new"},
}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A message of the registry's rules, taken apart. `path` points into the schema of the reader."""

    kind: str
    path: str
    said: str
    detail: str


def read_misfit(message: str, direction: Direction) -> Misfit:
    """Takes apart what `Parsed.misfits` says.

    >>> said = "{errorType:'TYPE_MISMATCH', description:'The type at path '/fields/1/type' of the %(reader)s schema "
    >>> said += "cannot hold what the %(writer)s has', additionalInfo:'reader type: INT'}"
    >>> read_misfit(said, "backward")
    Misfit(kind='TYPE_MISMATCH', path='/fields/1/type', said="The type at path '/fields/1/type' of the new schema \
cannot hold what the old has", detail='reader type: INT')
    """
    message = message % _DIRECTIONS[direction]
    found = _MISFIT.match(message)
    if found is None:
        return Misfit("INCOMPATIBLE", "", message, "")
    path = _PATH.search(found["said"])
    return Misfit(found["kind"], path[1] if path else "", found["said"], found["detail"])


@dataclass(frozen=True, slots=True)
class Finding:
    """A breaking change. `field` is its path, as in `lines[].quantity`, or empty for the class as a whole.

    One that no schema says, such as a handler's new name, has no level and no version, and maybe no topic.
    """

    topic: str
    contract: str
    field: str
    rule: str
    problem: str
    remedy: str
    level: str
    version: int | None
    """The version that it breaks with."""

    @property
    def place(self) -> str:
        """The class and the field."""
        return f"{self.contract}.{self.field}" if self.field else self.contract

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        against = f"{self.level}, against version {self.version}" if self.version is not None else self.level
        place = f"{self.topic}  {self.place}" if self.topic else self.place
        rule = f"{self.rule} ({against})" if against else self.rule
        return f"{place}\n  {rule}: {self.problem}\n  → {self.remedy}"
