"""Every command but what it does."""

import typer

from millstream.operate.cli.broker import become_broker
from millstream.operate.cli.config import config
from millstream.operate.cli.dlq import dlq
from millstream.operate.cli.docs import docs
from millstream.operate.cli.help import help_
from millstream.operate.cli.lag import lag
from millstream.operate.cli.logs import logs
from millstream.operate.cli.reset import reset
from millstream.operate.cli.run import run
from millstream.operate.cli.sagas import sagas
from millstream.operate.cli.schemas import EXIT_CODES as FOUND
from millstream.operate.cli.schemas import schemas
from millstream.operate.cli.simulate import simulate
from millstream.operate.cli.tail import tail
from millstream.operate.cli.topics import topics
from millstream.operate.cli.up import up
from millstream.operate.cli.verify import EXIT_CODES as VERIFIED
from millstream.operate.cli.verify import verify

EXIT_CODES = (
    "Exit codes: 0 done or stopped, 1 it failed, 2 wrong usage or configuration, 3 the slot is taken, 4 a worker hung."
)

app = typer.Typer(
    name="millstream",
    help="Event-driven microservices on Apache Kafka.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)


def broker(context: typer.Context) -> None:
    """Run the local Kafka broker alone. For development and tests, not for production."""
    become_broker(context.args)


for command in (up, run, logs, lag, tail, config, reset, simulate):
    app.command(epilog=EXIT_CODES)(command)
app.command("help", epilog=EXIT_CODES)(help_)
app.command(epilog=FOUND)(docs)
app.command(epilog=VERIFIED)(verify)
app.add_typer(schemas, name="schemas")
app.add_typer(topics, name="topics", epilog=EXIT_CODES)
app.add_typer(dlq, name="dlq")
app.add_typer(sagas, name="sagas")
app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(broker)
