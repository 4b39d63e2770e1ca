"""`millstream topics`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import (
    JsonOption,
    SystemOption,
    cluster,
    plain_table,
    print_json,
    print_table,
    say_none,
    tool_settings,
)

if TYPE_CHECKING:
    from millstream.declare import System
    from millstream.kafka import TopicInfo


topics = typer.Typer(
    rich_markup_mode="markdown",
    invoke_without_command=True,
)


@topics.callback()
def list_(
    context: typer.Context,
    system: SystemOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what the system does not declare.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the topics of the system: what lives on them, who writes and reads them, and whether they are there.

    Examples:

      millstream topics

      millstream topics --all --json
    """
    from millstream.operate.place import load_system

    if context.invoked_subcommand is not None:
        return
    found = load_system(system)
    settings, _ = tool_settings()
    with cluster(settings, "millstream-topics") as (_, _, there):
        pass
    rows = _declared(found, there)
    if everything:
        known = {row["topic"] for row in rows}
        rows += [_row(name, info.partitions, there) for name, info in there.items() if name not in known]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say_none(f"{found.name} declares no topics.")
        return
    table = plain_table("topic", "partitions#", "copies#", "carries", "written by", "read by")
    for row in rows:
        copies = str(row["copies"]) if row["exists"] else "missing"
        listed = [", ".join(row[key]) for key in ("carries", "written_by", "read_by")]
        table.add_row(row["topic"], str(row["partitions"]), copies, *listed)
    print_table(table)


@topics.command()
def grow(
    system: SystemOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Give topics the partitions that they are declared with, all that must agree at once.

    Change the declaration first, `Topic(..., partitions=12)`, stop the services that read them, and run this before
    they start with it. Where keys that move would lose state or order, or a reader is at work, it refuses, and names
    what stands against it.

    Examples:

      millstream topics grow --dry-run

      millstream topics grow
    """
    from millstream.errors import ConfigurationError
    from millstream.operate.growing import plan_growth
    from millstream.operate.place import load_system

    found = load_system(system)
    settings, _ = tool_settings()
    with cluster(settings, "millstream-topics") as (kafka, admin, _):
        growth = plan_growth(found.services(), settings, kafka, admin)
        for name, (has, count) in growth.topics.items():
            typer.echo(f"{name}: {has} partitions, declared with {count}")
        if growth.against:
            reasons = "".join(f"\n- {reason}" for reason in growth.against)
            raise ConfigurationError(
                f"Nothing was changed. Against {len(growth.topics)} topics getting more partitions stands:{reasons}\n"
                "State and order that have to move need a new topic with more partitions: see "
                "`millstream help topics-that-change`. Or declare the number of partitions that there are."
            )
        if growth.missing:
            typer.echo(f"not there, and made when its service starts: {', '.join(growth.missing)}", err=True)
        if not growth.topics:
            typer.echo("All topics that are there have as many partitions as are declared.")
        elif not dry_run:
            admin.grow_topics({name: count for name, (_, count) in growth.topics.items()})
            typer.echo("Done. Start the services that read them with the new declaration.")


def _declared(system: "System", there: "dict[str, TopicInfo]") -> list[dict[str, Any]]:
    from millstream.declare import home_of
    from millstream.operate.assembly import topics_of

    rows: dict[str, dict[str, Any]] = {}
    for service in system.services():
        for spec in topics_of(service):
            rows.setdefault(spec.name, _row(spec.name, spec.partitions, there))
        homes = [home_of(contract) for contract in service.produced()]
        for topic in (*homes, *service.consumed()):
            rows[topic.name]["carries"] = [contract.__name__ for contract in topic.contracts]
        written = [topic.name for topic in homes] + [store.changelog(service.name) for store in service.stores()]
        for name in (*written, *(topic.dead_letters for topic in service.consumed())):
            _add(rows[name], "written_by", service.name)
        for topic in service.consumed():
            _add(rows[topic.name], "read_by", service.name)
    return [rows[name] for name in sorted(rows)]


def _row(name: str, partitions: int, there: "dict[str, TopicInfo]") -> dict[str, Any]:
    info = there.get(name)
    return {
        "topic": name,
        "exists": info is not None,
        "partitions": info.partitions if info else partitions,
        "copies": info.replication if info else 0,
        "carries": [],
        "written_by": [],
        "read_by": [],
    }


def _add(row: dict[str, Any], key: str, name: str) -> None:
    if name not in row[key]:
        row[key].append(name)
