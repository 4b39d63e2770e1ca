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
    ErrorOption,
    KeyOption,
    ReasonOption,
    RevealOption,
    SchemaOption,
    ServiceOption,
    SinceOption,
    TopicOption,
    TypeOption,
    UntilOption,
    filter_of,
    json_line,
    office,
    progress,
)

if TYPE_CHECKING:
    from millstream.operate.dlq.clerk import Done, Person
    from millstream.operate.dlq.editing import Draft, Edited
    from millstream.operate.dlq.filters import Filter
    from millstream.operate.dlq.letter import DeadLetter, LetterId
    from millstream.operate.dlq.office import Office
    from millstream.operate.dlq.work import Refused, Work

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID…", help="Letters as `list` shows them, or none and a filter.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that wait, where no filter is given.")]
RateOption = Annotated[str | None, typer.Option("--rate", metavar="N/s", help="So many a second (/m, /h) at most.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Stop after so many.")]
AllowReorderOption = Annotated[
    bool, typer.Option("--allow-reorder", help="Also those that later events of their key overtook.")
]
MaxRedrivesOption = Annotated[
    int, typer.Option("--max-redrives", min=1, metavar="N", help="Leave those that were handed in as often.")
]


def redrive(
    letters: IdsArgument = None,
    topic: TopicOption = None,
    error: ErrorOption = None,
    reason: ReasonOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    type: TypeOption = None,
    schema: SchemaOption = None,
    service: ServiceOption = None,
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
    """Hand dead letters again to the service that failed, and to it alone. Each once, whoever else is at it.

    With ids, all of them or none; with a filter, those that nothing speaks against, and the others are named.

    Examples:

      millstream dlq redrive orders.events.dlq:3:42 --comment "card reader mended"

      millstream dlq redrive --reason gateway_down --since 2h --dry-run

      millstream dlq redrive --service payment --error TimeoutError --rate 10/s --limit 500
    """
    from millstream.operate.dlq.bulk import Limits, redrives

    wanted = filter_of(
        error=error, reason=reason, key=key, since=since, until=until, type=type, schema=schema, service=service,
        states=("open", "parked"),
    )  # fmt: skip
    ids = _ids(letters, wanted, topic, everything)
    limits = Limits(limit, max_redrives, allow_reorder)
    person = _person(by, comment, "redrive")
    with _chosen(ids, wanted, system, topic, service) as (at, chosen):
        plans = redrives(at, chosen, limits)
        _carry_out(
            at, _all_or_none(plans) if ids else plans, person, rate, dry_run=dry_run, as_json=as_json, named=bool(ids)
        )


def discard(
    letters: IdsArgument = None,
    topic: TopicOption = None,
    error: ErrorOption = None,
    reason: ReasonOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    type: TypeOption = None,
    schema: SchemaOption = None,
    service: ServiceOption = None,
    everything: AllOption = False,
    dry_run: DryOption = False,
    limit: LimitOption = 1_000,
    by: AsOption = None,
    comment: CommentOption = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give dead letters up. They stay where they are, and the audit says who gave them up. A parked key goes on.

    Examples:

      millstream dlq discard orders.events.dlq:3:42 --comment "a test order"

      millstream dlq discard --type TestOrdered --until 2026-03-01 --dry-run
    """
    from millstream.operate.dlq.bulk import discards

    wanted = filter_of(
        error=error, reason=reason, key=key, since=since, until=until, type=type, schema=schema, service=service,
        states=("open", "parked"),
    )  # fmt: skip
    ids = _ids(letters, wanted, topic, everything)
    person = _person(by, comment, "discard")
    with _chosen(ids, wanted, system, topic, service) as (at, chosen):
        plans = discards(at, chosen, limit)
        _carry_out(
            at, _all_or_none(plans) if ids else plans, person, None, dry_run=dry_run, as_json=as_json, named=bool(ids)
        )


def edit(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
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
    """Mend an event and hand it in again: with --set, --value-file, or in $EDITOR. It keeps its id and its place.

    What does not fit its class any more is refused before anything is written. In $EDITOR, personal data is masked;
    what stays masked stays as it is.

    Examples:

      millstream dlq edit orders.events.dlq:3:42

      millstream dlq edit orders.events.dlq:3:42 --set quantity=3 --comment "a typing error"

      millstream dlq edit orders.events.dlq:3:42 --value-file mended.json --dry-run
    """
    from millstream.contracts import Contracts, Registry
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq import work
    from millstream.operate.dlq.bulk import Limits, redrives
    from millstream.operate.dlq.editing import Draft
    from millstream.operate.dlq.letter import LetterId
    from millstream.operate.dlq.reading import letter_at

    if fields and file is not None:
        raise ConfigurationError("--set changes fields and --value-file gives a whole value; give one of them")
    id = LetterId.read(letter)
    person = _person(by, comment, "edit")
    with office(system, id.topic, None) as (at, _, settings):
        found = letter_at(at, id)
        [plan] = _all_or_none(redrives(at, [found], Limits(1, max_redrives, allow_reorder)))
        contracts = Contracts(Registry(settings.registry_url))
        edited = _edited(Draft(found, at.origins, contracts, named=type, reveal=reveal), fields, file)
        plans = [work.edit(plan, edited.value, edited.headers, edited.changed)]
        _carry_out(at, plans, person, None, dry_run=dry_run, as_json=as_json, named=True)


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


def _ids(letters: list[str] | None, wanted: "Filter", topic: str | None, everything: bool) -> "list[LetterId]":
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.letter import LetterId

    ids = [LetterId.read(letter) for letter in dict.fromkeys(letters or ())]
    filtered = not wanted.empty or topic is not None
    if ids and (filtered or everything):
        raise ConfigurationError("Give ids, or a filter, or --all: not two of them")
    if filtered and everything:
        raise ConfigurationError("--all takes no filter: leave one of them out")
    if not ids and not filtered and not everything:
        raise ConfigurationError("Which letters? Give ids, or a filter such as --reason, or --all")
    return sorted(ids)


def _person(by: str | None, comment: str | None, command: str) -> "Person":
    from millstream.operate.dlq.audit import whoami
    from millstream.operate.dlq.clerk import Person

    return Person(by or whoami(), f"millstream dlq {command}", comment)


def _all_or_none(plans: "Iterable[Work | Refused]") -> "list[Work]":
    """The work, where nothing speaks against any of it. Raises `ConfigurationError` before anything is done if not."""
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.work import Refused, Work

    found = list(plans)
    refused = [f"{plan.letter.id}: {plan.detail}" for plan in found if isinstance(plan, Refused)]
    if refused:
        raise ConfigurationError("; ".join([*refused, "nothing was written"]))
    return [plan for plan in found if isinstance(plan, Work)]


def _carry_out(
    at: "Office",
    plans: "Iterable[Work | Refused]",
    person: "Person",
    rate: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    named: bool,
) -> None:
    from millstream.operate.dlq.bulk import carry_out
    from millstream.operate.dlq.filters import rate as rate_of
    from millstream.operate.dlq.work import Work

    a_second = None if rate is None else rate_of(rate)
    done = left = 0
    for result in plans if dry_run else carry_out(at, plans, person, rate=a_second):
        was_done = isinstance(result, Work) or getattr(result, "mine", False)
        done, left = done + was_done, left + (not was_done)
        _say(result, as_json=as_json)
    if not done + left:
        say_none("No dead letter that waits matches: `millstream dlq list` shows all that wait.")
    elif not as_json:
        typer.echo(f"{done} {'would be ' if dry_run else ''}done, {left} left")
    if named and left:
        raise typer.Exit(1)


def _say(result: "Done | Refused | Work", *, as_json: bool) -> None:
    from millstream.operate.dlq.clerk import Done
    from millstream.operate.dlq.telling import action, sentence
    from millstream.operate.dlq.work import Refused, Work

    work = result.work if isinstance(result, Done) else result
    if isinstance(result, Done) and not result.mine:
        work = Refused(work.letter, "done", f"it was {result.entry.told()}, a moment ago")
    if not as_json:
        typer.echo(sentence(work))
        return
    row = {"id": str(work.letter.id), "service": work.letter.service}
    if isinstance(work, Refused):
        json_line(row | {"done": False, "code": work.code, "detail": work.detail})
    elif isinstance(result, Done):
        json_line(row | {"done": True, **action(result.entry)})
    else:
        assert isinstance(work, Work)
        to = None if work.to is None else f"{work.to[0]}[{work.to[1]}]"
        json_line(row | {"done": False, "code": "dry_run", "action": work.action, "redrive_to": to})


@contextmanager
def _chosen(
    ids: "list[LetterId]", wanted: "Filter", system: str | None, topic: str | None, service: str | None
) -> "Iterator[tuple[Office, Iterator[DeadLetter]]]":
    """The office, and the letters that are meant: those with these ids, or what the filter takes."""
    from millstream.operate.dlq.reading import letter_at, letters, size

    with office(system, topic, service) as (at, topics, _):
        if ids:
            unknown = {id.topic for id in ids} - set(topics)
            for name in unknown:
                at.origins.chosen(name, ())
            yield at, iter([letter_at(at, id) for id in ids])
            return
        with progress(lambda: size(at, topics), streaming=True) as read:
            yield at, (letter for letter, _ in letters(at, topics, wanted, progress=read))
