"""`python -m bench [NAME …]`: runs the benchmarks, prints a table and saves JSON under bench/results/."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.measure import Bound, Comparison, table

NAMES = ("handler", "stateful", "poison", "restore", "web", "latency", "memory", "codec", "broker")
RESULTS = Path(__file__).parent / "results"


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which ones: {', '.join(NAMES)}; default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often ours and the baseline alternate.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="broker: with a log of 5 GB.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of the table.")] = False,
    check: Annotated[bool, typer.Option(help="Exit code 1 where a figure falls short.")] = True,
) -> None:
    """Measures ours beside baselines written by hand, in one run, in turn."""
    console = Console(stderr=True)
    load = os.getloadavg()[0]
    comparisons: list[Comparison] = []
    bounds: list[Bound] = []
    for name in names or NAMES:
        if name not in NAMES:
            raise typer.BadParameter(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
        console.rule(name, align="left")
        more = {"full": full} if name == "broker" else {}
        found = import_module(f"bench.{name}").run(console, rounds, **more)
        found = found if isinstance(found, list) else [found]
        comparisons += [one for one in found if isinstance(one, Comparison)]
        bounds += [one for one in found if isinstance(one, Bound)]
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    saved = RESULTS / f"{now:%Y-%m-%dT%H%M%S}.json"
    report = {
        "at": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load_average": [load, os.getloadavg()[0]],
        "comparisons": [one.report() for one in comparisons],
        "bounds": [one.report() for one in bounds],
    }
    saved.write_text(json.dumps(report, indent=2))
    if as_json:
        print(saved.read_text())
    else:
        Console().print(table(comparisons, bounds))
    if load > 1 or os.getloadavg()[0] > (os.cpu_count() or 1) + 1:
        console.print(f"other work ran on this machine: load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    console.print(f"saved {saved.relative_to(Path.cwd()) if saved.is_relative_to(Path.cwd()) else saved}")
    sys.exit(check and not all(one.met for one in [*comparisons, *bounds]))


if __name__ == "__main__":
    typer.run(main)
