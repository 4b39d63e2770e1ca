"""`millstream reset`."""

from typing import TYPE_CHECKING, Annotated

import typer

from millstream.operate.cli.common import SystemOption, cluster, tool_settings

if TYPE_CHECKING:
    from millstream.declare import Kind, Service
    from millstream.kafka import Admin, Offsets


def reset(
    name: Annotated[str, typer.Argument(metavar="SERVICE", help="The service; it must be stopped.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="POSITION", help="earliest, latest, current, or a time: 2026-01-31T12:00:00Z."),
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="OLD_SERVICE", help="Where that service's groups stand.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only handlers of this kind: kafka, sql or effect.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be set, and set nothing.")] = False,
    system: SystemOption = None,
) -> None:
    """Say where a stopped service reads on: after a rename, with another database, when its state was lost.

    It sets the committed offsets of its groups and, for SQL handlers, the positions in its database. State is kept as
    it is; `current` confirms the position that is committed with whatever state there is.

    Examples:

      millstream reset billing --like invoicing

      millstream reset inventory --to current

      millstream reset inventory --to 2026-01-31T12:00:00Z --dry-run
    """
    from millstream.declare import Kind
    from millstream.errors import ConfigurationError
    from millstream.kafka.faults import in_use
    from millstream.operate.place import load_system
    from millstream.operate.starting import set_positions, state_topics

    if (to is None) == (like is None):
        raise ConfigurationError("Give either --to or --like: see `millstream reset --help`")
    service = load_system(system).service(name)
    kinds = [kind for kind in service.kinds() if only is None or kind.value == only]
    if not kinds:
        has = ", ".join(kind.value for kind in service.kinds())
        raise ConfigurationError(
            f"{name} has no {only} handlers; it has {has}" if has else f"{name} reads nothing, so it has no positions"
        )
    settings, _ = tool_settings()
    with cluster(settings, "millstream-reset") as (kafka, admin, there):
        # All are known and none is at work before the first is set: a refusal leaves everything as it was.
        wanted = {kind: _offsets(service, kind, admin, to, like) for kind in kinds}
        if not dry_run and (busy := [kind for kind in kinds if admin.group_members(service.group(kind))]):
            raise ConfigurationError(in_use(service.group(busy[0])))
        for kind, offsets in wanted.items():
            if not dry_run:
                set_positions(service, kind, offsets, settings, kafka, admin)
            for (topic, partition), offset in sorted(offsets.items()):
                would = "would read" if dry_run else "reads"
                typer.echo(f"{service.group(kind)}: {topic}[{partition}] {would} on at {offset}")
            if kind is not Kind.SQL and to != "current":
                held = [topic for topic in state_topics(service, kind) if topic in there]
                typer.echo(f"kept as they are, with what state they hold: {', '.join(held)}", err=True)


def _offsets(service: "Service", kind: "Kind", admin: "Admin", to: str | None, like: str | None) -> "Offsets":
    from millstream.errors import ConfigurationError
    from millstream.kafka import BEGINNING, END
    from millstream.operate.starting import partitions_of

    topics = [topic.name for topic in service.consumed(kind)]
    partitions = partitions_of(admin, topics)
    if to is not None and to != "current":
        at = {"earliest": BEGINNING, "latest": END}.get(to)
        return admin.offsets_at(partitions, _milliseconds(to) if at is None else at)
    group = service.group(kind) if like is None else f"{like}.{kind.value}"
    committed = {at: found.offset for at, found in admin.group_offsets(group).items() if at[0] in topics}
    if not committed:
        raise ConfigurationError(f"Group {group!r} has committed nothing for {', '.join(topics)}: give --to instead")
    first = admin.offsets_at(partitions, BEGINNING)
    return {at: first[at] if (offset := committed.get(at)) is None else offset for at in partitions}


def _milliseconds(text: str) -> int:
    from datetime import UTC, datetime

    from millstream.errors import ConfigurationError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--to {text}: it is earliest, latest, current, or a time such as 2026-01-31T12:00:00Z"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
