"""`millstream run`."""

from typing import Annotated

import typer

from millstream.operate.cli.common import SystemOption


def run(
    name: Annotated[str, typer.Argument(metavar="SERVICE", help="The service, or a sandbox process of the system.")],
    system: SystemOption = None,
) -> None:
    """Run one service in this process, until Ctrl-C or SIGTERM.

    Where Kafka and the registry are is told by MILLSTREAM_* variables; `millstream config` shows them.

    Examples:

      millstream run inventory

      MILLSTREAM_BOOTSTRAP_SERVERS=kafka:9092 MILLSTREAM_REGISTRY_URL=http://registry:8081 millstream run order
    """
    from millstream.errors import ConfigurationError, did_you_mean
    from millstream.operate.place import load_system
    from millstream.operate.run import run as run_process

    found = load_system(system)
    known = (*found.names, *found.sandbox)
    if name not in known:
        raise ConfigurationError(
            f"{found.name} has no service {name!r}{did_you_mean(name, known)}; it has {', '.join(known) or 'none'}"
        )
    raise typer.Exit(run_process(found, name))
