"""`millstream dlq redrive`, `edit` and `discard`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, say_none
from millstream.operate.cli.dlq.common import (
    AsOption,
    CommentOption,
    DryOption,
    RevealOption,
    Selection,
    dlq_context,
    json_line,
    progress,
    selecting,
)

if TYPE_CHECKING:
    from millstream.operate.dlq.context import DlqContext
    from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterId
    from millstream.operate.dlq.editing import Draft, Edited
    from millstream.operate.dlq.executor import Actor, Done
    from millstream.operate.dlq.plans import Plan, Refused

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID…", help="Dead letters as `list` shows them, or none and a filter.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that wait, where no filter is given.")]
RateOption = Annotated[
    str | None, typer.Option("--rate", metavar="N/s", help="Limit to N a second (/m a minute, /h an hour).")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Stop after N.")]
AllowReorderOption = Annotated[
    bool, typer.Option("--allow-reorder", help="Also events that later events of their key superseded.")
]
MaxRedrivesOption = Annotated[
    int, typer.Option("--max-redrives", min=1, metavar="N", help="Leave events that were redriven N times already.")
]


@selecting
def redrive(
    ids: IdsArgument = None,
    *,
    selection: Selection,
    everything: AllOption = False,
    dry_run: DryOption = False,
    rate: RateOption = None,
    limit: LimitOption = 1_000,
    max_redrives: MaxRedrivesOption = 3,
    allow_reorder: AllowReorderOption = False,
    by: AsOption = None,
    comment: CommentOption = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Redrive dead letters: to the service that failed, and to no other. Each once, also when others redrive it.

    With ids, all of them or none; with a filter, those that are not refused, and the others are listed.

    Examples:

      millstream dlq redrive orders.events.dlq:3:42 --comment "card reader repaired"

      millstream dlq redrive --reason gateway_down --since 2h --dry-run

      millstream dlq redrive --service payment --error TimeoutError --rate 10/s --limit 500
    """
    from millstream.operate.dlq.bulk import Limits, redrives

    actor = _actor(by, comment, "redrive")
    limits = Limits(limit, max_redrives, allow_reorder)
    with _selected(ids, selection, everything, system) as (context, selected):
        plans = redrives(context, selected, limits)
        _execute(
            context,
            _all_or_none(plans) if ids else plans,
            actor,
            rate,
            dry_run=dry_run,
            as_json=as_json,
            named=bool(ids),
        )


@selecting
def discard(
    ids: IdsArgument = None,
    *,
    selection: Selection,
    everything: AllOption = False,
    dry_run: DryOption = False,
    limit: LimitOption = 1_000,
    by: AsOption = None,
    comment: CommentOption = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Discard dead letters. The records stay, and the audit says who discarded them. A parked key is released.

    Examples:

      millstream dlq discard orders.events.dlq:3:42 --comment "a test order"

      millstream dlq discard --type TestOrdered --until 2026-03-01 --dry-run
    """
    from millstream.operate.dlq.bulk import discards

    actor = _actor(by, comment, "discard")
    with _selected(ids, selection, everything, system) as (context, selected):
        plans = discards(context, selected, limit)
        _execute(
            context,
            _all_or_none(plans) if ids else plans,
            actor,
            None,
            dry_run=dry_run,
            as_json=as_json,
            named=bool(ids),
        )


def edit(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    fields: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Such as lines.0.quantity=3; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--value-file", metavar="FILE", help="The whole new value, as JSON.")
    ] = None,
    type: Annotated[
        str | None, typer.Option("--type", metavar="CLASS", help="The class, where headers and topic do not say it.")
    ] = None,
    reveal: RevealOption = False,
    dry_run: DryOption = False,
    max_redrives: MaxRedrivesOption = 3,
    allow_reorder: AllowReorderOption = False,
    by: AsOption = None,
    comment: CommentOption = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Edit an event and redrive it: with --set, --value-file, or in $EDITOR. Its id, key and position stay the same.

    A value that does not fit its class is refused before anything is written. In $EDITOR, personal data is masked; a
    field that stays masked keeps its value.

    Examples:

      millstream dlq edit orders.events.dlq:3:42

      millstream dlq edit orders.events.dlq:3:42 --set quantity=3 --comment "a typing error"

      millstream dlq edit orders.events.dlq:3:42 --value-file corrected.json --dry-run
    """
    from millstream.contracts import Contracts, Registry
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq import plans
    from millstream.operate.dlq.bulk import Limits, redrives
    from millstream.operate.dlq.dead_letter import DeadLetterId
    from millstream.operate.dlq.editing import Draft
    from millstream.operate.dlq.reading import dead_letter_at

    if fields and file is not None:
        raise ConfigurationError("--set changes fields and --value-file gives a whole value; give one of them")
    dead_letter_id = DeadLetterId.read(id)
    actor = _actor(by, comment, "edit")
    with dlq_context(system, dead_letter_id.topic, None) as (context, _, settings):
        found = dead_letter_at(context, dead_letter_id)
        [plan] = _all_or_none(redrives(context, [found], Limits(1, max_redrives, allow_reorder)))
        contracts = Contracts(Registry(settings.registry_url))
        edited = _edited(Draft(found, context.origins, contracts, named=type, reveal=reveal), fields, file)
        plan = plans.edit(plan, edited.value, edited.headers, edited.changed)
        _execute(context, [plan], actor, None, dry_run=dry_run, as_json=as_json, named=True)


def _edited(draft: "Draft", fields: list[str] | None, file: Path | None) -> "Edited":
    from millstream.errors import ConfigurationError
    from millstream.operate.cli.dlq.editor import in_editor

    if fields:
        return draft.with_fields(fields)
    if file is not None:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"--value-file {file}: {error}") from None
        return draft.with_text(text)
    return in_editor(draft)


def _ids(ids: list[str] | None, *, filtered: bool, everything: bool) -> "list[DeadLetterId]":
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.dead_letter import DeadLetterId

    found = [DeadLetterId.read(id) for id in dict.fromkeys(ids or ())]
    if found and (filtered or everything):
        raise ConfigurationError("Give ids, or a filter, or --all: not two of them")
    if filtered and everything:
        raise ConfigurationError("--all takes no filter: leave one of them out")
    if not found and not filtered and not everything:
        raise ConfigurationError("Which dead letters? Give ids, or a filter such as --reason, or --all")
    return sorted(found)


def _actor(by: str | None, comment: str | None, command: str) -> "Actor":
    from millstream.operate.dlq.audit import whoami
    from millstream.operate.dlq.executor import Actor

    return Actor(by or whoami(), f"millstream dlq {command}", comment)


def _all_or_none(plans: "Iterable[Plan | Refused]") -> "list[Plan]":
    """Return the plans, if none is refused. Raises `ConfigurationError` otherwise."""
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.plans import Plan, Refused

    found = list(plans)
    refused = [f"{plan.dead_letter.id}: {plan.detail}" for plan in found if isinstance(plan, Refused)]
    if refused:
        raise ConfigurationError("; ".join([*refused, "nothing was written"]))
    return [plan for plan in found if isinstance(plan, Plan)]


def _execute(
    context: "DlqContext",
    plans: "Iterable[Plan | Refused]",
    actor: "Actor",
    rate: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    named: bool,
) -> None:
    from millstream.operate.dlq.bulk import execute
    from millstream.operate.dlq.filters import rate as rate_of
    from millstream.operate.dlq.plans import Plan

    a_second = None if rate is None else rate_of(rate)
    done = left = 0
    for result in plans if dry_run else execute(context, plans, actor, rate=a_second):
        was_done = isinstance(result, Plan) or getattr(result, "mine", False)
        done, left = done + was_done, left + (not was_done)
        _print(result, as_json=as_json)
    if not done + left:
        say_none("No dead letter that waits matches: `millstream dlq list` shows all that wait.")
    elif not as_json:
        typer.echo(f"{done} {'would be ' if dry_run else ''}done, {left} left")
    if named and left:
        raise typer.Exit(1)


def _print(result: "Done | Refused | Plan", *, as_json: bool) -> None:
    from millstream.operate.dlq.executor import Done
    from millstream.operate.dlq.plans import Plan, Refused
    from millstream.operate.dlq.rendering import entry_row, plan_line

    plan = result.plan if isinstance(result, Done) else result
    if isinstance(result, Done) and not result.mine:
        plan = Refused(plan.dead_letter, "done", f"it was {result.entry.summary()}, a moment ago")
    if not as_json:
        typer.echo(plan_line(plan))
        return
    row = {"id": str(plan.dead_letter.id), "service": plan.dead_letter.service}
    if isinstance(plan, Refused):
        json_line(row | {"done": False, "code": plan.code, "detail": plan.detail})
    elif isinstance(result, Done):
        json_line(row | {"done": True, **entry_row(result.entry)})
    else:
        assert isinstance(plan, Plan)
        to = None if plan.redrive_to is None else f"{plan.redrive_to[0]}[{plan.redrive_to[1]}]"
        json_line(row | {"done": False, "code": "dry_run", "action": plan.action, "redrive_to": to})


@contextmanager
def _selected(
    ids: list[str] | None, selection: Selection, everything: bool, system: str | None
) -> "Iterator[tuple[DlqContext, Iterator[DeadLetter]]]":
    """Connect; yields the context, and the dead letters with these ids, or those that the selection matches."""
    from millstream.operate.dlq.reading import dead_letter_at, read_dead_letters, size

    wanted = selection.filter(("open", "parked"))
    filtered = not wanted.empty or selection.topic is not None
    found = _ids(ids, filtered=filtered, everything=everything)
    with dlq_context(system, selection.topic, selection.service) as (context, topics, _):
        if found:
            for name in {id.topic for id in found} - set(topics):
                context.origins.select(name, ())
            yield context, iter([dead_letter_at(context, id) for id in found])
            return
        with progress(lambda: size(context, topics), streaming=True) as read:
            yield (
                context,
                (dead_letter for dead_letter, _ in read_dead_letters(context, topics, wanted, progress=read)),
            )
