"""The command line: `millstream up`, `run`, `topics`, `lag`, `tail`, `config`."""

import sys

import typer

from millstream.errors import ConfigurationError, DeclarationError, IncompatibleSchema, MillstreamError
from millstream.operate.cli.config import config
from millstream.operate.cli.lag import lag
from millstream.operate.cli.run import run
from millstream.operate.cli.tail import tail
from millstream.operate.cli.topics import topics
from millstream.operate.cli.up import up

EXIT_CODES = "Exit codes: 0 done or stopped, 1 it failed, 2 wrong usage or configuration, 3 the slot is taken."

app = typer.Typer(
    name="millstream",
    help="Event-driven microservices on Apache Kafka.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)
for command in (up, run, topics, lag, tail, config):
    app.command(epilog=EXIT_CODES)(command)


def main() -> None:
    """The entry point `millstream`. What goes wrong foreseeably is one line on standard error."""
    try:
        app()
    except (ConfigurationError, DeclarationError, IncompatibleSchema) as error:
        sys.exit(_say(error, 2))
    except MillstreamError as error:
        sys.exit(_say(error, 1))


def _say(error: MillstreamError, code: int) -> int:
    print(f"millstream: {error}", file=sys.stderr)
    return code
