"""`millstream dlq serve`."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.operate.cli.common import SystemOption, cluster, tool_settings
from millstream.operate.cli.dlq.common import AsOption


def serve(
    rules: Annotated[Path, typer.Option("--rules", metavar="FILE", help="The rules, as TOML.")],
    by: AsOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
    system: SystemOption = None,
) -> None:
    """Redrive dead letters by rule, until SIGTERM or Ctrl-C. It may be killed and started again at any time.

    `GET /metrics` and `/health` are at MILLSTREAM_HTTP. `millstream help redrive` shows a file of rules.

    Examples:

      millstream dlq serve --rules redrive.toml

      millstream dlq serve --rules redrive.toml --check
    """
    from millstream.operate.dlq.audit import whoami
    from millstream.operate.dlq.context import Origins
    from millstream.operate.dlq.rules import read_rules
    from millstream.operate.dlq.serve import RedriveService
    from millstream.operate.place import load_system
    from millstream.operate.watch import watched_tool
    from millstream.telemetry import Health

    origins = Origins(load_system(system))
    found = read_rules(rules, origins)
    if check:
        typer.echo(f"{rules}: {len(found)} rules, no mistakes")
        return
    settings, _ = tool_settings()
    health = Health()
    with (
        watched_tool(RedriveService.name, settings, health) as stop,
        cluster(settings, "millstream-dlq-serve") as (kafka, admin, _),
    ):
        RedriveService(kafka, admin, origins, found, by=by or whoami(), health=health).run(stop)
