"""Lines of a process's log as a person reads them: a JSON record in one line, a traceback as the user's own frames."""

import json
import re
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from millstream.user_code import is_user_code, place_in_user_code

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
MAX_FRAMES: Final = 3
"""Frames of the user's own code that a traceback shows, the innermost ones."""
MAX_VALUE: Final = 400
"""Characters of one field that a person is shown."""

_FRAME = re.compile(r' *File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
_TEXT_LEVEL = re.compile(r"\[(debug|info|warning|error|critical) *\]|^\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
_GROUP = re.compile(r"^ *(?:\+[-+]+.*|[|+] )")
"""The marks that an exception group puts in front of the lines of each of its errors."""
TRACEBACK: Final = "Traceback (most recent call last):"


class LogLine(NamedTuple):
    """One line of a log. `level` and `at` are empty where it does not say them; `record` is what JSON it holds."""

    text: str
    level: str = ""
    at: str = ""
    record: dict[str, Any] | None = None

    @property
    def is_trouble(self) -> bool:
        """True for a warning or worse."""
        return at_least(self.level, "warning")


class Frame(NamedTuple):
    """One line of code in a traceback."""

    file: str
    line: str
    function: str
    code: str

    @property
    def is_own(self) -> bool:
        """True for code of the user: no library's, not ours, and in a file."""
        return is_user_code(self.file)

    def __str__(self) -> str:
        """As `place:line in function`, and the code below it."""
        within = f" in {self.function}" if self.function and self.function != "<module>" else ""
        code = f"\n  {self.code}" if self.code else ""
        return f"{_short(self.file)}:{self.line}{within}{code}"


def read_line(text: str) -> LogLine:
    """Read a line of a log: ECS JSON as processes of Millstream write it, text with a level, or anything else.

    >>> read_line('{"log.level": "warning", "message": "late"}').level, read_line("Hello").level
    ('warning', '')
    """
    if text.startswith("{"):
        try:
            found: Any = json.loads(text)
        except ValueError:  # a line of text, and shown so
            found = None
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            record = cast("dict[str, Any]", found)
            return LogLine(text, str(record.get("log.level", "")), str(record.get("@timestamp", "")), record)
    level = _TEXT_LEVEL.search(text[:200])
    return LogLine(text, (level[1] or level[2]).lower() if level else "")


def at_least(level: str, least: str) -> bool:
    """Return whether one level is at least as severe as another; a line without a level never is.

    >>> at_least("error", "warning"), at_least("", "debug")
    (True, False)
    """
    return level in LEVELS and LEVELS.index(level) >= LEVELS.index(least)


def for_people(line: LogLine) -> str:
    """The line for a terminal, without its time: message, fields, and an error with the user's own frames below it.

    >>> for_people(read_line('{"message": "cannot start", "millstream": {"error": "no broker", "worker": "a.kafka"}}'))
    'cannot start: no broker  worker=a.kafka'
    """
    if line.record is None:
        return line.text.rstrip()
    known = line.record.get("millstream")
    fields = dict(cast("dict[str, Any]", known)) if isinstance(known, dict) else {}
    error = line.record.get("error")
    stack = error.get("stack_trace") if isinstance(error, dict) else None
    said = fields.pop("error", "") or (error.get("message", "") if isinstance(error, dict) else "")
    if isinstance(stack, str) and (block := crash(stack)):
        said = ""
    else:
        block = ""
    message = f"{line.record['message']}{f': {said}' if said else ''}"
    told = " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value not in (None, ""))
    whole = f"{message}  {told}".rstrip()
    return f"{whole}\n{block}" if block else whole


def crash(text: str) -> str:
    r"""The error of a traceback, and where in the user's own code it was; empty where `text` has no traceback.

    Without a frame of the user's, the innermost of all is shown.

    >>> print(crash('Traceback (most recent call last):\n  File "/srv/shop/packing.py", line 3, in pack\n    retrun\n'
    ...             "NameError: name 'retrun' is not defined"))
    NameError: name 'retrun' is not defined
      /srv/shop/packing.py:3 in pack
        retrun
    """
    lines = [_GROUP.sub("", line) for line in text.splitlines() if not line.startswith("{")]
    starts = [number for number, line in enumerate(lines) if line.endswith(TRACEBACK)]
    if not starts and not any(_FRAME.match(line) for line in lines):
        return ""
    bounds = [*(starts or [0]), len(lines)]
    sections = [lines[at:end] for at, end in pairwise(bounds)]
    parts = [_section(section) for section in sections]
    error, frames = parts[-1]
    own = [frame for frame in frames if frame.is_own] or [
        frame for _, others in reversed(parts) for frame in others if frame.is_own
    ]
    shown = own[-MAX_FRAMES:] or frames[-1:]
    below = "\n".join(str(frame) for frame in shown)
    return "\n".join([error, *(f"  {line}" for line in below.splitlines())])


def crash_of(error: BaseException) -> str:
    """`crash` of an error at hand; empty where no frame of it is the user's own code."""
    return crash("".join(traceback.format_exception(error))) if place_in_user_code(error) else ""


def _section(lines: list[str]) -> tuple[str, list[Frame]]:
    """The error and the frames of one traceback."""
    frames: list[Frame] = []
    said: list[str] = []
    for number, line in enumerate(lines):
        if found := _FRAME.match(line):
            code = lines[number + 1].strip() if number + 1 < len(lines) else ""
            is_code = bool(code) and lines[number + 1].startswith("    ") and not _FRAME.match(lines[number + 1])
            frames.append(Frame(found["file"], found["line"], found["function"] or "", code if is_code else ""))
            said.clear()
        elif line.strip() and (said or (frames and not line.startswith("  "))):
            said.append(line)
    told = [line for line in said if not line.endswith(("the following exception:", "another exception occurred:"))]
    return "\n".join(told) or "an error without a message", frames


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _short(file: str) -> str:
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
