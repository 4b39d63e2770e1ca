"""`millstream dlq`: list, show, redrive, edit, discard, serve."""

import typer

from millstream.operate.cli.dlq.commands import discard, edit, redrive
from millstream.operate.cli.dlq.look import list_, show
from millstream.operate.cli.dlq.rules import serve

EXIT_CODES = "Exit codes: 0 done, 1 it failed or somebody was quicker, 2 wrong usage or refused, 4 it hung (serve)."

dlq = typer.Typer(
    help="Dead letters: look at them, hand them in again, mend or discard them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=EXIT_CODES,
)
dlq.command("list", epilog=EXIT_CODES)(list_)
for command in (show, redrive, edit, discard, serve):
    dlq.command(epilog=EXIT_CODES)(command)
