"""`millstream logs`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.operate.cli.common import DataOption

if TYPE_CHECKING:
    from millstream.operate.log_lines import LogLine
    from millstream.operate.process_log import ProcessLog

LAST = 100
"""Lines shown without --lines."""
LISTEN_EVERY = 0.2
"""Seconds between looks with --follow."""
READ_BYTES = 4 << 20
"""Bytes at the end of each log that are looked at."""


def logs(
    service: Annotated[
        str | None, typer.Argument(metavar="SERVICE", help="Only this process; default: all, by time.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="The last N of them.")] = LAST,
    level: Annotated[
        str, typer.Option(metavar="LEVEL", help="Only these and worse: debug, info, warning, error, critical.")
    ] = "debug",
    data: DataOption = Path(".millstream"),
    as_json: Annotated[bool, typer.Option("--json", help="Lines as they were logged, for programs.")] = False,
) -> None:
    """Show the logs of the processes that `millstream up` runs or ran, readable; a crash as the lines of your own code.

    Examples:

      millstream logs

      millstream logs payment --follow

      millstream logs --level warning --lines 20
    """
    from millstream.errors import ConfigurationError
    from millstream.operate.log_lines import LEVELS, at_least
    from millstream.operate.process_log import ProcessLog
    from millstream.operate.up import LOGS

    if level not in LEVELS:
        raise ConfigurationError(f"--level {level}: it is one of {', '.join(LEVELS)}")
    folder = data / LOGS
    files = _files(folder, service)
    tails = {name: ProcessLog(file) for name, file in files.items()}
    shown = [
        (name, line) for name, line in _merged(files) if level == "debug" or at_least(line.level, level)
    ]  # what has no level, such as what a process printed, is left out where one is asked for
    for name, line in shown[len(shown) - min(lines, len(shown)) :]:
        _print(name, line, as_json=as_json)
    if not follow:
        if not shown:
            typer.echo(f"No such line in {folder}.", err=True)
        return
    try:
        for name, line in _following(folder, service, tails):
            if level == "debug" or at_least(line.level, level):
                _print(name, line, as_json=as_json)
    except KeyboardInterrupt:  # how one ends it
        return


def _files(folder: Path, service: str | None) -> dict[str, Path]:
    from millstream.errors import ConfigurationError, did_you_mean

    found = {file.stem: file for file in sorted(folder.glob("*.log"))}
    if not found:
        raise ConfigurationError(
            f"There are no logs in {folder}. `millstream up` writes them there; for another folder, give --data"
        )
    if service is None:
        return found
    if service not in found:
        meant = did_you_mean(service, found)
        raise ConfigurationError(f"There is no log of {service!r}{meant} in {folder}; there are {', '.join(found)}")
    return {service: found[service]}


def _merged(files: dict[str, Path]) -> "list[tuple[str, LogLine]]":
    """Return the last lines by time. A line that does not say its time goes with the one before it."""
    from millstream.operate.log_lines import read_line

    dated: list[tuple[str, str, LogLine]] = []
    for name, file in files.items():
        at = ""
        for text in _last_lines(file.with_suffix(".log.1")) + _last_lines(file):
            line = read_line(text)
            at = line.at or at
            dated.append((at, name, line))
    dated.sort(key=lambda entry: entry[0])
    return [(name, line) for _, name, line in dated]


def _last_lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as written:
            size = file.stat().st_size
            written.seek(max(0, size - READ_BYTES))
            lines = written.read().decode(errors="replace").splitlines()
    except FileNotFoundError:  # nothing was written yet
        return []
    return [line for line in (lines[1:] if size > READ_BYTES else lines) if line.strip()]


def _following(folder: Path, service: str | None, tails: "dict[str, ProcessLog]") -> "Iterator[tuple[str, LogLine]]":
    import time

    from millstream.operate.log_lines import read_line
    from millstream.operate.process_log import ProcessLog

    while True:
        if service is None:
            for file in folder.glob("*.log"):
                tails.setdefault(file.stem, ProcessLog(file, 0))
        quiet = True
        for name, tail in tails.items():
            for text in tail.lines():
                quiet = False
                yield name, read_line(text)
        if quiet:
            time.sleep(LISTEN_EVERY)


def _print(name: str, line: "LogLine", *, as_json: bool) -> None:
    import json

    from millstream.operate.log_lines import for_people

    if as_json:
        text = line.text if line.record is not None else json.dumps({"service.name": name, "message": line.text})
    else:
        at = line.at[11:23]
        text = " ".join(part for part in (at, name.ljust(12), line.level.upper(), for_people(line)) if part)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
