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
            f"{bound.figure:,.1f} {bound.unit}",
            f"≤ {bound.most:g}",
            "met" if bound.met else "NOT MET",
        )
    return shown


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure that must not exceed a bound."""

    name: str
    unit: str
    figure: float
    most: float

    @property
    def met(self) -> bool:
        """Whether it does not."""
        return self.figure <= self.most

    def report(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"met": self.met}
