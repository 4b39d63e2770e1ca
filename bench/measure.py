"""Runs two sides in turn, so that a machine whose speed drifts treats them alike."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of one benchmark, ours and the baseline's, one of each a round."""

    name: str
    unit: str
    ours: list[float]
    baseline: list[float]
    wanted: float
    """The ratio of ours to the baseline that we hold ourselves to."""

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.ours, self.baseline, strict=True))

    @property
    def met(self) -> bool:
        """Whether the ratio is what we want."""
        return self.ratio >= self.wanted

    def report(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"ratio": round(self.ratio, 3), "met": self.met}


def alternate(
    name: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    *,
    unit: str,
    wanted: float,
    rounds: int,
    console: Console,
) -> Comparison:
    """Runs `baseline`, `ours`, `baseline`, … `rounds` times each; both return a figure where more is better."""
    result = Comparison(name, unit, [], [], wanted)
    for number in range(rounds):
        result.baseline.append(baseline())
        result.ours.append(ours())
        console.print(
            f"  {name} round {number + 1}: ours {result.ours[-1]:,.0f}, baseline {result.baseline[-1]:,.0f} {unit}"
        )
    return result


def table(comparisons: list[Comparison], bounds: list["Bound"]) -> Table:
    """Both kinds of result as one table to look at."""
    shown = Table(title="Measured", title_justify="left")
    for column in ("benchmark", "ours (median)", "baseline (median)", "ratio / figure", "wanted", ""):
        shown.add_column(column, justify="left" if column == "benchmark" else "right")
    for one in comparisons:
        shown.add_row(
            one.name,
            f"{statistics.median(one.ours):,.0f} {one.unit}",
            f"{statistics.median(one.baseline):,.0f} {one.unit}",
            f"{one.ratio:.2f} ×",
            f"≥ {one.wanted} ×",
            "met" if one.met else "NOT MET",
        )
    for bound in bounds:
        shown.add_row(
            bound.name,
            "",
            "",
            f"{bound.figure:,.{bound.digits}f} {bound.unit}",
            bound.wanted,
            ("met" if bound.met else "NOT MET") if bound.wanted else "",
        )
    return shown


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure that must not exceed `most` or must reach `least`; with neither it is only told."""

    name: str
    unit: str
    figure: float
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is where we want it."""
        return (self.most is None or self.figure <= self.most) and (self.least is None or self.figure >= self.least)

    @property
    def wanted(self) -> str:
        """The bound, in words."""
        if self.most is not None:
            return f"≤ {self.most:,g}"
        return f"≥ {self.least:,.0f}" if self.least is not None else ""

    @property
    def digits(self) -> int:
        """Decimals that are worth showing."""
        return 0 if self.figure >= 1000 else 1 if self.figure >= 10 else 2

    def report(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "met": self.met}
