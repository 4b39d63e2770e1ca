"""`millstream simulate`."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from millstream.operate.simulate import SeedResult

SHOWN = 30
"""Lines of a failing seed's timeline, from its end."""


def simulate(
    name: Annotated[str | None, typer.Argument(metavar="[SYSTEM]", help="The system's name, to be sure.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to run.")] = 100,
    first: Annotated[int, typer.Option("--first", min=0, help="The first of them.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="At a time; default: one for each processor.")
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Print the whole timeline of a seed that fails.")
    ] = False,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole system in worlds where everything fails: one for each seed, in virtual time.

    The services, the runtime and the broker's core run in one process. Crashes, pauses, lost answers and slow messages
    come from the seed, so a seed that fails does it again. Exit code 1 where one fails.

    Examples:

      millstream simulate orders --seeds 100

      millstream simulate orders --first 26 --seeds 1 --timeline
    """
    from millstream.errors import ConfigurationError
    from millstream.extras import require
    from millstream.operate.place import load_system
    from millstream.operate.simulate import run_seeds

    require("local", "`millstream simulate`")
    found = load_system(system)
    if name not in (None, found.name):
        raise ConfigurationError(f"The system here is {found.name!r}, not {name!r}. Give another with --system.")
    if found.simulation is None:
        raise ConfigurationError(
            f"{found.name} names no simulation: System({found.name!r}, …, simulation='module:function'); see "
            "`millstream help simulation`"
        )
    began = time.monotonic()
    results: list[SeedResult] = []
    with _progress(seeds, shown=sys.stderr.isatty()) as step:
        for result in run_seeds(found.simulation, range(first, first + seeds), jobs or os.cpu_count() or 1):
            results.append(result)
            if result.violations and not as_json:
                print("\n".join(_lines(found.name, result, whole=timeline)), flush=True)
            step()
    seconds = time.monotonic() - began
    failed = [result for result in results if result.violations]
    if as_json:
        print_json(_report(results, seconds, whole=timeline))
    else:
        print(f"{seeds} seeds, {len(failed)} failed, {60 * seeds / seconds:.0f} seeds a minute")
    if failed:
        raise typer.Exit(1)


def _lines(name: str, result: "SeedResult", *, whole: bool) -> Iterator[str]:
    yield f"seed {result.seed} fails:"
    yield from (f"  {line}" for violation in result.violations for line in violation.splitlines())
    lines = result.timeline.splitlines()
    yield f"its timeline{'' if whole else f' ends, of {len(lines)} lines'}:"
    yield from lines if whole else lines[-SHOWN:]
    yield f"again: millstream simulate {name} --first {result.seed} --seeds 1 --timeline"


def _report(results: "Iterable[SeedResult]", seconds: float, *, whole: bool) -> dict[str, Any]:
    seeds = [
        {
            "seed": result.seed,
            "violations": result.violations,
            "digest": result.digest,
            "seconds": round(result.seconds, 3),
            "virtual_seconds": round(result.virtual_seconds, 3),
            **({"timeline": result.timeline.splitlines()} if whole and result.violations else {}),
        }
        for result in sorted(results, key=lambda result: result.seed)
    ]
    return {"seconds": round(seconds, 1), "seeds_per_minute": round(60 * len(seeds) / seconds, 1), "seeds": seeds}


@contextmanager
def _progress(total: int, *, shown: bool) -> "Iterator[Callable[[], None]]":
    """A bar on standard error, and what moves it on."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("seeds", total=total)
        yield lambda: bar.advance(task)
