"""`millstream up`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from millstream.operate.cli.common import DataOption, SystemOption


def up(
    system: SystemOption = None,
    data: DataOption = Path(".millstream"),
    port: Annotated[int, typer.Option(help="Of the public address; 0: a free one.", min=0, max=65_535)] = 8000,
    extra: Annotated[list[str] | None, typer.Option("--with", metavar="NAME", help="Start this, too.")] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,…", help="Use this cluster instead of the local platform.")
    ] = None,
    registry: Annotated[str | None, typer.Option(metavar="URL", help="The schema registry of that cluster.")] = None,
    kafka_port: Annotated[int, typer.Option(help="Of the local broker; 0: a free one.", min=0, max=65_535)] = 9092,
    registry_port: Annotated[int, typer.Option(help="Of the local registry; 0: a free one.", min=0, max=65_535)] = 8081,
    logs: Annotated[bool, typer.Option("--logs", help="Show every line of every log, not only trouble.")] = False,
    like_a_cluster: Annotated[
        bool, typer.Option("--like-a-cluster", help="Local transactions take the time that they take on a cluster.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happens as JSON lines.")] = False,
) -> None:
    """Start the whole system on this machine and keep it running. Ctrl-C ends it.

    Starts a local Kafka broker and schema registry, every service, and what stands in for the world outside. A process
    that dies starts again. Warnings and errors of its log are shown; all of it is in DATA/logs (`millstream logs`), and
    DATA/up.json tells programs where everything is.

    Examples:

      millstream up

      millstream up --with shoppers --port 8100

      millstream up --bootstrap-servers kafka-1:9092,kafka-2:9092 --registry http://registry:8081
    """
    import asyncio

    from millstream.operate.cli.screen import screen_for
    from millstream.operate.place import find_place, load_system
    from millstream.operate.up import Up

    place = system or find_place()
    with (
        Up(
            load_system(place),
            place,
            data=data,
            port=port,
            kafka_port=kafka_port,
            registry_port=registry_port,
            bootstrap_servers=bootstrap_servers,
            registry=registry,
            like_a_cluster=like_a_cluster,
            extra=extra or (),
            shown="all" if logs else "trouble",
        ) as whole,
        screen_for(whole, as_json=as_json, terminal=sys.stdout.isatty()) as screen,
    ):
        stopped = asyncio.run(whole.run(screen.show))
    raise typer.Exit(0 if stopped else 2)
