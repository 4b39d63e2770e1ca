"""`millstream sagas`: list, show, retry."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.operate.cli.common import (
    JsonOption,
    SystemOption,
    cluster,
    plain_table,
    print_json,
    print_json_list,
    print_table,
    say_none,
    tool_settings,
)

if TYPE_CHECKING:
    from millstream.kafka import Kafka
    from millstream.operate.sagas import Found
    from millstream.patterns.saga import SagaState

EXIT_CODES = "Exit codes: 0 done, 1 it failed or there is no such id, 2 wrong usage or configuration."
ROWS = 200
"""Rows that a person is shown unless asked for more."""

SagaOption = Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only sagas of this name.")]

sagas = typer.Typer(
    help="Sagas: how each stands, and how it came to that.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=EXIT_CODES,
)


@sagas.command("list", epilog=EXIT_CODES)
def list_(
    saga: SagaOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="running, cancelling, parked, completed, cancelled or all; default: all that wait for an answer.",
        ),
    ] = None,
    older: Annotated[
        str | None, typer.Option("--older", metavar="AGE", help="Unchanged for as long, such as 90s, 5m, 2h or 7d.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Started since: 2026-03-01T12:00 (UTC), or 2h ago.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help=f"Rows; default: {ROWS}, and all with --json.")
    ] = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sagas, those that have waited longest first.

    Examples:

      millstream sagas list

      millstream sagas list --state parked

      millstream sagas list --saga returns --state cancelled --since 7d --json
    """
    from millstream.operate.dlq.filters import duration, moment

    now = datetime.now(UTC)
    states = _states(state)
    begin = None if since is None else moment(since, now)
    quiet = None if older is None else now - duration(older)

    def wanted(state: "SagaState") -> bool:
        return (
            (state.current is not None if states is None else state.shown in states)
            and (begin is None or state.started_at >= begin)
            and (quiet is None or state.changed_at <= quiet)
        )

    with _found(system, saga, wanted=wanted) as (_, every):
        if as_json:
            print_json_list(found.told() for found in islice(every, limit))
            return
        rows = list(islice(every, (limit or ROWS) + 1))
    if not rows:
        say_none(
            "No saga waits for an answer; --state all shows those that have ended, too."
            if states is None and begin is None and quiet is None
            else "There is no such saga."
        )
        return
    table = plain_table("saga", "id", "state", "step", "tries#", "unchanged for", "reason")
    for found in rows[: limit or ROWS]:
        told = found.told()
        tries = str(told["tries"]) if told["step"] else ""
        age = _age(now - found.state.changed_at)
        table.add_row(told["saga"], told["id"], told["state"], told["step"], tries, age, told["reason"])
    print_table(table)
    if len(rows) > (limit or ROWS):
        typer.echo("There are more: --limit N shows more rows, --json all, and filters fewer (see --help).", err=True)


@sagas.command(epilog=EXIT_CODES)
def show(
    id: Annotated[str, typer.Argument(help="Its id, which is the key of its events.")],
    saga: SagaOption = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one saga: its steps, and what happened to it when. What its events said is not shown.

    Examples:

      millstream sagas show 019a5b6e-7c1f-7d44-9a77-0d7b5f6f2f11

      millstream sagas show 019a5b6e-7c1f-7d44-9a77-0d7b5f6f2f11 --json
    """
    with _found(system, saga, id=id) as (_, every):
        rows = _some(id, every)
    if as_json:
        print_json([found.told() for found in rows])
        return
    for found in rows:
        state = found.state
        because = f", because: {state.reason}" if state.reason else ""
        typer.echo(f"{found.saga} {found.id} of {found.service.name} is {state.shown}{because}")
        steps = plain_table("step", "status")
        for step in state.steps:
            steps.add_row(step.name, step.status)
        print_table(steps)
        history = plain_table("at", "step", "what", "detail")
        for line in state.history:
            history.add_row(line.at.isoformat(timespec="milliseconds"), line.step, line.what, line.detail)
        print_table(history)


@sagas.command(epilog=EXIT_CODES)
def retry(
    id: Annotated[str, typer.Argument(help="The id of a parked saga.")],
    saga: SagaOption = None,
    system: SystemOption = None,
) -> None:
    """Let a parked saga send its command again, once what troubled it is over.

    Example: millstream sagas retry 019a5b6e-7c1f-7d44-9a77-0d7b5f6f2f11
    """
    from millstream.errors import MillstreamError
    from millstream.operate.sagas import try_anew

    with _found(system, saga, id=id) as (kafka, every):
        rows = _some(id, every)
        parked = [found for found in rows if found.state.parked]
        if not parked:
            stand = ", ".join(f"{found.saga} of {found.service.name} is {found.state.shown}" for found in rows)
            raise MillstreamError(f"No saga {id} is parked, and only a parked one is tried again: {stand}.")
        for found in parked:
            try_anew(kafka, found)
            typer.echo(f"{found.saga} {found.id} of {found.service.name} tries anew.")


@contextmanager
def _found(
    system: str | None,
    saga: str | None,
    *,
    id: str | None = None,
    wanted: "Callable[[SagaState], bool] | None" = None,
) -> "Iterator[tuple[Kafka, Iterator[Found]]]":
    from millstream.contracts import Contracts, Registry
    from millstream.operate.place import load_system
    from millstream.operate.sagas import declared_sagas, read_sagas

    declared = declared_sagas(load_system(system).services(), saga)
    settings, _ = tool_settings()
    with cluster(settings, "millstream-sagas") as (kafka, _, there):
        contracts = Contracts(Registry(settings.registry_url))
        yield kafka, read_sagas(kafka, contracts, declared, there, id=id, wanted=wanted)


def _some(id: str, every: "Iterator[Found]") -> "list[Found]":
    from millstream.errors import MillstreamError

    rows = list(every)
    if not rows:
        raise MillstreamError(f"There is no saga with the id {id!r}; `millstream sagas list --state all` shows all.")
    return rows


def _states(wanted: list[str] | None) -> tuple[str, ...] | None:
    """Return the states of `--state`; None for all that wait for an answer, also ended ones that undo a late step."""
    from millstream.errors import ConfigurationError
    from millstream.operate.sagas import STATES

    if wanted is None:
        return None
    if "all" in wanted:
        return STATES
    if unknown := [state for state in wanted if state not in STATES]:
        raise ConfigurationError(f"--state {unknown[0]}: a saga is {', '.join(STATES)}; or give all")
    return tuple(wanted)


def _age(age: timedelta) -> str:
    return str(age).partition(".")[0]
