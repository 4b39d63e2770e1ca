"""`millstream lag`."""

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
    from millstream.declare import Service


def lag(
    system: SystemOption = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="A line for each partition.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far each consumer group of the system is behind, in records.

    Examples:

      millstream lag

      millstream lag --partitions

      millstream lag --json
    """
    from millstream.errors import ConfigurationError
    from millstream.operate.place import load_system

    found = load_system(system)
    settings, _ = tool_settings()
    named = {group: service.name for service in found.services() for group in _groups(service)}
    declared = {group: topics for service in found.services() for group, topics in _groups(service).items()}
    with cluster(settings, "millstream-lag") as (_, admin, there):
        groups = {group: [topic for topic in topics if topic in there] for group, topics in declared.items()}
        if declared and not any(groups.values()):
            raise ConfigurationError(
                f"None of the topics that {found.name} reads is on {settings.bootstrap_servers}: is it the system that "
                "runs there (--system, or pyproject.toml here), and did it run yet?"
            )
        lags = admin.group_lags(groups)
    rows = [
        {"service": named[group], "group": group, **behind._asdict()}
        for group, all_of in lags.items()
        for behind in all_of
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say_none(f"{found.name} has no service that reads a topic.")
        return
    table = plain_table("group", "topic", *(["partition#", "committed#", "end#"] if partitions else []), "behind#")
    for row in rows if partitions else _summed(rows):
        middle = [str(row[key]) for key in ("partition", "committed", "end")] if partitions else []
        table.add_row(row["group"], row["topic"], *middle, str(row["lag"]))
    print_table(table)


def _groups(service: "Service") -> dict[str, list[str]]:
    """The consumer groups of a service, and what each reads."""
    groups = {service.group(kind): [topic.name for topic in service.consumed(kind)] for kind in service.kinds()}
    return groups | {background.group: [background.topic] for background in service.background}


def _summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        place = row["group"], row["topic"]
        sums[place] = sums.get(place, 0) + row["lag"]
    return [{"group": group, "topic": topic, "lag": lag} for (group, topic), lag in sums.items()]
