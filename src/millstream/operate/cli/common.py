"""Options that several commands share, and the settings of a person's tools."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.timeouts import ANSWER_TIMEOUT

if TYPE_CHECKING:
    from rich.table import Table

    from millstream.kafka import Admin, Kafka, TopicInfo
    from millstream.settings import Settings

SystemOption = Annotated[
    str | None,
    typer.Option("--system", metavar="MODULE:NAME", help="The system; default: what pyproject.toml names."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DataOption = Annotated[Path, typer.Option("--data", envvar="MILLSTREAM_DATA_DIR", help="Folder for data and logs.")]

FROM_UP = ("MILLSTREAM_BOOTSTRAP_SERVERS", "MILLSTREAM_REGISTRY_URL", "MILLSTREAM_ADDRESSES")
"""The settings that a running `millstream up` gives to the tools beside it."""


def tool_settings() -> "tuple[Settings, dict[str, str]]":
    """Settings for a command that looks at a system, and where those come from that have no default.

    The environment wins; then what a running `millstream up` says of itself; then the defaults.
    """
    from millstream.settings import load_settings, unknown_variables

    for sentence in unknown_variables(os.environ):
        typer.echo(f"millstream: warning: {sentence}", err=True)
    told = load_settings()
    sources = {variable: "environment" for variable in os.environ if variable.startswith("MILLSTREAM_")}
    found = {variable: value for variable, value in _beside(told.data_dir).items() if variable not in sources}
    if not found:
        return told, sources
    sources |= dict.fromkeys(found, str(told.data_dir / "up.json"))
    return load_settings(**{name.removeprefix("MILLSTREAM_").lower(): value for name, value in found.items()}), sources


@contextmanager
def cluster(settings: "Settings", client_id: str) -> "Iterator[tuple[Kafka, Admin, dict[str, TopicInfo]]]":
    """The cluster, once it has answered: its clients, its admin, and the topics that are there.

    Raises `Unavailable` after a few seconds, with the remedy.
    """
    from millstream.errors import Unavailable
    from millstream.kafka import connect

    kafka = connect(settings, client_id)
    admin = kafka.admin()
    try:
        try:
            there = admin.topics(timeout=ANSWER_TIMEOUT)
        except Unavailable as error:
            raise Unavailable(
                f"No Kafka broker answers at {settings.bootstrap_servers}. Does `millstream up` run on this folder's "
                "data? For a cluster elsewhere, set MILLSTREAM_BOOTSTRAP_SERVERS."
            ) from error
        yield kafka, admin, there
    finally:
        admin.close()


def _beside(data: Path) -> dict[str, Any]:
    from millstream.operate.up import running

    state = running(data)
    if state is None:
        return {}
    return dict(zip(FROM_UP, (state["bootstrap_servers"], state["registry"], state["addresses"]), strict=True))


def say_none(what: str) -> None:
    """Say on standard error that there is nothing to list: on standard output programs find an empty list."""
    typer.echo(what, err=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_json_list(values: Iterable[Any]) -> None:
    """One JSON list on standard output, an item a line as they come: none is held."""
    between = "["
    for value in values:
        sys.stdout.write(f"{between}\n{json.dumps(value)}")
        between = ","
    sys.stdout.write("[]\n" if between == "[" else "\n]\n")


def print_table(table: "Table") -> None:
    """Print a table, in full where standard output is no terminal; rich honours NO_COLOR."""
    from rich.console import Console

    # What others wrote, such as an error's text, is shown to the letter: "[/v1/charges]" is no closing tag.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    console.print(table)


def plain_table(*columns: str) -> "Table":
    """A table without lines; columns whose name ends in # are numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    return table
