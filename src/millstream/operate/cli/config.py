"""`millstream config`."""

from typing import Annotated

import typer

from millstream.operate.cli.common import JsonOption, plain_table, print_json, print_table, say_none, tool_settings


def config(
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from the defaults.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in effect, and where each comes from. Secrets are hidden.

    Examples:

      millstream config

      MILLSTREAM_COMMIT_INTERVAL_MS=20 millstream config --changed
    """
    settings, sources = tool_settings()
    shown = [
        {
            "variable": setting.variable,
            "value": setting.value,
            "source": sources.get(setting.variable, "default"),
            "meaning": setting.meaning,
        }
        for setting in settings.shown()
        if not changed or setting.variable in sources
    ]
    if as_json:
        print_json(shown)
        return
    if not shown:
        say_none("Every setting has its default.")
        return
    table = plain_table("setting", "value", "from", "meaning")
    for setting in shown:
        table.add_row(*setting.values())
    print_table(table)
