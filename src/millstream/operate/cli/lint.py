"""`millstream schemas lint`."""

from typing import Any

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, print_json


def lint(system: SystemOption = None, as_json: JsonOption = False) -> None:
    """Find what will be regretted: names, typed topic names, technical keys, lost events, too many partitions.

    What is known and wanted is allowed in pyproject.toml, where bounds can be set, too:

      [tool.millstream.lint]

      allow = ["names:LegacyOrderCreate", "literals:shop/tools/*"]

      partitions_of_topic = 64

      partitions_of_system = 2000

    Examples:

      millstream schemas lint

      millstream schemas lint --json
    """
    from millstream.errors import ConfigurationError
    from millstream.operate.place import load_system, project_table
    from millstream.operate.schemas.lint import Bounds
    from millstream.operate.schemas.lint import lint as remarks_of

    found = load_system(system)
    told: dict[str, Any] = project_table().get("lint", {})
    if unknown := set(told) - {"allow", "partitions_of_topic", "partitions_of_system"}:
        raise ConfigurationError(
            f"[tool.millstream.lint] has {', '.join(sorted(unknown))}; it takes allow, partitions_of_topic and "
            "partitions_of_system"
        )
    usual = Bounds()
    bounds = Bounds(
        told.get("partitions_of_topic", usual.topic),
        told.get("partitions_of_system", usual.system),
    )
    remarks = remarks_of(found, bounds, tuple(told.get("allow", ())))
    if as_json:
        print_json([remark.as_dict() for remark in remarks])
    else:
        for remark in remarks:
            typer.echo(f"{remark}\n")
        typer.echo(f"{found.name}: {len(remarks)} remark{'' if len(remarks) == 1 else 's'}")
    raise typer.Exit(1 if remarks else 0)
