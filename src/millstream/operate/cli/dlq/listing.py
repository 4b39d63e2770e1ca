"""`millstream dlq list` and `show`."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, plain_table, print_json, print_table, say_none
from millstream.operate.cli.dlq.common import (
    RevealOption,
    Selection,
    dlq_context,
    json_line,
    progress,
    selecting,
)

if TYPE_CHECKING:
    from millstream.operate.dlq.dead_letter import State

ROWS = 200
"""Rows that are printed by default."""


@selecting
def list_(
    of_topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Only of this topic, such as orders.events.")
    ] = None,
    *,
    selection: Selection,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="open, parked, redriven, edited, discarded or all; default: open and parked."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help=f"Rows; default: {ROWS}, and all with --json.")
    ] = None,
    reveal: RevealOption = False,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters: what failed where and why, and its state. JSON is one dead letter a line, with its value.

    What the system declares as Personal is masked.

    Examples:

      millstream dlq list

      millstream dlq list orders.events --reason 'card_*' --since 2h

      millstream dlq list --state all --key o-17 --json
    """
    from millstream.contracts import Contracts, Registry
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.reading import read_dead_letters, size
    from millstream.operate.dlq.rendering import dead_letter_row
    from millstream.operate.masking import masking_of

    if of_topic is not None and selection.topic is not None and of_topic != selection.topic:
        raise ConfigurationError(f"{of_topic} and --topic {selection.topic} are two topics; give one of them")
    topic = of_topic or selection.topic
    wanted = selection.filter(_states(state))
    masking = None if reveal else masking_of(system)
    with dlq_context(system, topic, selection.service) as (context, topics, settings):
        contracts = Contracts(Registry(settings.registry_url))
        with progress(lambda: size(context, topics), streaming=as_json) as read:
            rows = (
                dead_letter_row(dead_letter, state, context.audit[dead_letter.id], contracts, masking)
                for dead_letter, state in read_dead_letters(context, topics, wanted, progress=read)
            )
            if as_json:
                for row in islice(rows, limit):
                    json_line(row)
                return
            shown = list(islice(rows, (limit or ROWS) + 1))
    more = len(shown) > (limit or ROWS)
    if not shown:
        say_none("No dead letter waits." if wanted.empty and topic is None and not state else "No such dead letter.")
        say_none("--state all shows those that are redriven, edited or discarded, too.")
        return
    _print_rows(shown[: limit or ROWS])
    _hint_at_reveal(shown, masking)
    if more:
        typer.echo("There are more: --limit N shows more rows, --json all, and filters fewer (see --help).", err=True)


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it, such as orders.events.dlq:3:42.")],
    reveal: RevealOption = False,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter in full: value, headers, error, stack trace, and the action taken.

    Examples:

      millstream dlq show orders.events.dlq:3:42

      millstream dlq show orders.events.dlq:3:42 --reveal --json
    """
    from millstream.contracts import Contracts, Registry
    from millstream.operate.dlq.dead_letter import DeadLetterId
    from millstream.operate.dlq.reading import dead_letter_at
    from millstream.operate.dlq.rendering import dead_letter_row
    from millstream.operate.masking import masking_of

    dead_letter_id = DeadLetterId.read(id)
    masking = None if reveal else masking_of(system)
    with dlq_context(system, dead_letter_id.topic, None) as (context, _, settings):
        contracts = Contracts(Registry(settings.registry_url))
        found = dead_letter_at(context, dead_letter_id)
        row = dead_letter_row(found, context.audit.state(found), context.audit[dead_letter_id], contracts, masking)
    if as_json:
        print_json(row)
        return
    for name, part in row.items():
        if part not in (None, "", {}):
            typer.echo(f"{name:<16} {_text(part)}")
        elif name == "value" and not found.value_left_out:
            typer.echo(f"{name:<16} (none)")
    _hint_at_reveal(row, masking)


def _hint_at_reveal(shown: Any, masking: object) -> None:
    from millstream.declare.personal import MASK

    if masking is not None and MASK in json.dumps(shown, ensure_ascii=False, default=str):
        typer.echo(f"Personal data is hidden ({MASK}); --reveal shows it.", err=True)


def _states(asked: list[str] | None) -> "tuple[State, ...] | None":
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.dead_letter import STATES, WAITING

    if not asked:
        return WAITING
    if "all" in asked:
        return None
    if unknown := set(asked) - set(STATES):
        raise ConfigurationError(f"--state {unknown.pop()}: it is one of {', '.join(STATES)}, or all")
    return cast("tuple[State, ...]", tuple(asked))


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table = plain_table(
        "id", "state", "failed", "service", "handler", "reason", "key", "type", "tries#", "redrives#", "message"
    )
    for row in rows:
        cells = ("id", "state", "failed_at", "service", "handler", "reason", "key", "type", "attempts", "redrives")
        message = (row["message"] or "")[:80]
        texts = ["" if row[cell] is None else str(row[cell]) for cell in cells]
        texts[2] = texts[2][:19]
        table.add_row(*texts, message)
    print_table(table)


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part.rstrip().replace("\n", "\n" + " " * 17)
    return json.dumps(part, ensure_ascii=False, default=str)
