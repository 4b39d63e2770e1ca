"""`temperature simulate`, `temperature replay FILE`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.contracts import Contracts, Registry
from millstream.errors import KafkaFault, MillstreamError
from millstream.kafka import Admin, Kafka, Message
from millstream.operate.assembly import topics_of
from millstream.operate.cli.common import cluster, tool_settings
from millstream.settings import Settings
from temperature.devices import measure, paced
from temperature.pipeline import analytics
from temperature.replay import replay as run_replay
from temperature.sending import Sender

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
out, err = Console(markup=False, emoji=False), Console(stderr=True, markup=False, emoji=False)

EXIT_CODES = "Exit codes: 0 done, 1 something is missing or stands still, 2 bad usage."


@app.command(epilog=f"Example: temperature simulate --devices 5 --rate 5. {EXIT_CODES}")
def simulate(
    devices: Annotated[int, typer.Option(min=1, max=10_000, help="How many devices measure.")] = 5,
    rate: Annotated[float, typer.Option(min=0.01, max=100_000, help="Readings a second, of all devices.")] = 5.0,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share of readings that are nonsense.")] = 0.02,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many readings; default: at Ctrl-C.")] = None,
) -> None:
    """Devices that send a reading now and then; shows each delivery report."""
    readings = islice(measure(devices, malformed=malformed), count)
    with _pipeline() as (_, kafka, _, contracts), Sender(kafka, contracts, on_delivery=_show) as sender:
        for report in paced(readings, rate):
            sender.send(report)


@app.command(epilog=f"Example: temperature replay sensors.txt.gz --json. {EXIT_CODES}")
def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Lines of sensors, gzipped or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds without progress after which to give up.")] = 60.0,
) -> None:
    """Sends a recorded file through the running pipeline and counts what was accepted and rejected."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        _pipeline() as (settings, kafka, admin, contracts),
        Progress(*columns, console=err, disable=not err.is_terminal) as bars,
    ):
        tasks = {stage: bars.add_task(stage, total=None) for stage in ("sent", "handled")}
        outcome = run_replay(
            file,
            kafka,
            admin,
            contracts,
            settings,
            patience=timeout,
            progress=lambda stage, done, all: bars.update(tasks[stage], completed=done, total=all or None),
        )
    if as_json:
        print(json.dumps({name: getattr(outcome, name) for name in outcome.__struct_fields__}))
    else:
        table = Table("", "lines", title=f"{file.name}: {outcome.lines:,} lines")
        table.add_row("accepted", f"{outcome.accepted:,}", end_section=True)
        table.add_row("rejected", f"{outcome.rejected:,}")
        for reason, count in outcome.reasons.items():
            table.add_row(f"  {reason}", f"{count:,}")
        out.print(table)
    if not outcome.complete:
        missing = outcome.lines - outcome.accepted - outcome.rejected
        err.print(f"{missing:,} lines were neither accepted nor rejected", style="red")
        raise typer.Exit(1)


@contextmanager
def _pipeline() -> Iterator[tuple[Settings, Kafka, Admin, Contracts]]:
    """The cluster, with the pipeline's topics there: devices may speak before it first starts."""
    settings, _ = tool_settings()
    with cluster(settings, "temperature") as (kafka, admin, _):
        admin.ensure_topics(topics_of(analytics))
        yield settings, kafka, admin, Contracts(Registry(settings.registry_url))


def _show(failure: KafkaFault | None, message: Message) -> None:
    device = (message.key() or b"?").decode()
    if failure is not None:
        err.print(f"{device} ✗ {failure}", style="red", highlight=False)
    else:
        out.print(f"{device} ✓ {message.topic()}[{message.partition()}] @ {message.offset()}", highlight=False)


def main() -> None:
    """The entry point: errors are one line that says what to do."""
    try:
        app()
    except MillstreamError as error:
        err.print(f"temperature: {error}", style="red", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
