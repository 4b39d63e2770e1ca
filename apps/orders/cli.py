"""`orders`: what a person does with the order system from outside."""

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from millstream.operate.up import running
from millstream.settings import load_settings
from orders.replay.books import Summary
from orders.replay.invoices import InvoiceFile, UnreadableFile, exact
from orders.replay.run import Plan, replay
from orders.replay.shop import GaveUp

SHOWN = 20
"""How many differences are printed one by one."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The order system, from outside.")


@app.callback()
def _orders() -> None:
    """Keeps `replay` a command of its own."""


@app.command("replay")
def replay_command(
    file: Annotated[Path, typer.Argument(help="The retailer's invoices: CSV, gzipped or not")],
    url: Annotated[
        str | None,
        typer.Option(envvar="ORDERS_URL", help="The system's public address; default: that of `millstream up` here"),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Invoices a second; default: as fast as possible")] = None,
    scarce: Annotated[bool, typer.Option("--scarce", help="Stock about half of what is needed")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for everything")] = 300,
) -> None:
    """Turns invoices into API calls, waits for every order's end, and checks the books against the file.

    Exit codes: 0 all agrees, 1 something differs or is still open, 2 the file cannot be read, 3 the system does not
    answer as it should.
    """
    screen = Console(stderr=True)
    try:
        invoices = InvoiceFile(file)
        next(iter(invoices), None)  # a file that is something else is told before the system is looked for
        summary = _with_progress(
            Plan(invoices, (url or _running_here()).rstrip("/"), rate, scarce, timeout), screen, quiet=as_json
        )
    except (UnreadableFile, GaveUp) as error:
        _give_up(screen, error)
    except ExceptionGroup as errors:
        known = errors.subgroup((UnreadableFile, GaveUp))
        if known is None:
            raise
        _give_up(screen, known.exceptions[0])
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        _show(Console(), summary, invoices, scarce=scarce)
    raise typer.Exit(1 if summary.differences else 0)


def main() -> None:
    """The console script."""
    app()


def _running_here() -> str:
    """The public address of the `millstream up` that uses this folder's data."""
    state = running(load_settings().data_dir)
    return state["public"] if state else "http://127.0.0.1:8000"


def _give_up(screen: Console, error: BaseException) -> NoReturn:
    screen.print(str(error), style="red", markup=False, highlight=False)
    raise typer.Exit(2 if isinstance(error, UnreadableFile) else 3) from error


def _with_progress(plan: Plan, screen: Console, *, quiet: bool) -> Summary:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as progress:
        bars = {what: progress.add_task(what, total=None) for what in ("sent", "ended")}

        def told(what: str, count: int, of: int | None) -> None:
            progress.update(bars[what], completed=count, total=of)

        return asyncio.run(replay(plan, told))


def _show(screen: Console, summary: Summary, invoices: InvoiceFile, *, scarce: bool) -> None:
    counts, amounts = invoices.counts, invoices.amounts
    table = Table("", "file", "system")
    table.add_row("invoices", str(counts.total()), str(summary.invoices))
    expected = "" if scarce else str(counts["sale"])
    table.add_row("sales completed", expected, str(summary.completed))
    table.add_row("sales cancelled", "" if scarce else "0", str(summary.cancelled))
    table.add_row("returns completed", str(counts["return"]), str(summary.returned))
    table.add_row("adjustments refused", str(counts["adjustment"]), str(summary.refused))
    table.add_row("still open", "0", str(summary.open))
    table.add_row("revenue", "" if scarce else exact(amounts["sale"]), summary.revenue)
    table.add_row("refunds", exact(-amounts["return"]), summary.refunds)
    table.add_row("mails delivered", "", str(summary.mails))
    table.add_row("of these twice", "", str(summary.mails_duplicated))
    screen.print(table)
    for difference in summary.differences[:SHOWN]:
        screen.print(f"differs: {difference}", markup=False, highlight=False, style="red")
    if len(summary.differences) > SHOWN:
        screen.print(f"… and {len(summary.differences) - SHOWN} more differences", style="red")
    if not summary.differences:
        screen.print(f"Stock, payments, shipments and mails agree. {summary.seconds:.1f} s.", style="green")
