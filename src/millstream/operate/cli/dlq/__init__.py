"""`millstream dlq`: list, show, redrive, edit, discard, serve."""

import typer

from millstream.operate.cli.dlq.commands import discard, edit, redrive
from millstream.operate.cli.dlq.listing import list_, show
from millstream.operate.cli.dlq.serve import serve

EXIT_CODES = "Exit codes: 0 done, 1 failed or another operator was first, 2 wrong usage or refused, 4 it hung (serve)."

dlq = typer.Typer(
    help="Dead letters: list, show, redrive, edit and discard them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=EXIT_CODES,
)
dlq.command("list", epilog=EXIT_CODES)(list_)
for command in (show, redrive, edit, discard, serve):
    dlq.command(epilog=EXIT_CODES)(command)
