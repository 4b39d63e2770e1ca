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
    from millstream.operate.place import load_system

    services = load_system(system).services()
    settings, _ = tool_settings()
    rows: list[dict[str, Any]] = []
    with cluster(settings, "millstream-lag") as (_, admin, there):
        for service in services:
            rows += [
                {"service": service.name, "group": group, **found._asdict()}
                for group, topics in _groups(service).items()
                for found in admin.group_lag(group, [topic for topic in topics if topic in there])
            ]
    if as_json:
        print_json(rows)
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
