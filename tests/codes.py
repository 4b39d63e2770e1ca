"""Writes docs/codes.md: the stable codes of errors and log events, as the source has them. `make codes` runs it."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import millstream
from millstream.errors import MillstreamError, SlotTaken
from millstream.operate.run import MISCONFIGURATIONS, Exit

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "millstream"
DOCS = ROOT / "docs"
PAGE = DOCS / "codes.md"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

HEAD = """# Codes of errors and log events

Alert on codes: names of classes and words of messages may change, codes do not. In JSON logs an event's code is
`event.code`, and the code of a Millstream error is `error.code`; in text they are `code=` and `error_code=`. The local
broker's log has the code behind the level. In a program an error's code is `error.code`.

`make codes` writes this page from the source.
"""


class LogCall(NamedTuple):
    """A call that logs. `code`: the literal, or `None` where there is none; `words`: the message."""

    file: str
    line: int
    level: str
    code: str | None
    words: str

    @property
    def room(self) -> str:
        return self.file.split("/")[0]


def log_calls() -> list[LogCall]:
    """Return all calls of a logger named `log` or `_log` in the package."""
    return [call for path in sorted(SOURCE.rglob("*.py")) for call in _calls_of(path)]


def error_classes() -> list[type[BaseException]]:
    """Return the errors of the tree, and those that a sub-package exports."""
    found = set(_tree(MillstreamError))
    for module in pkgutil.walk_packages(millstream.__path__, "millstream."):
        if module.ispkg and module.name.split(".")[1] not in ("local", "testing"):
            package = importlib.import_module(module.name)
            exported = (getattr(package, name) for name in getattr(package, "__all__", ()))
            found |= {one for one in exported if inspect.isclass(one) and issubclass(one, BaseException)}
    return sorted(found, key=code_of)


def code_of(error: Any) -> str:
    """Return the code that a class itself declares; empty where it inherits one or has none."""
    return vars(error).get("code", "")


def page() -> str:
    """Return the text of docs/codes.md."""
    return "\n".join([HEAD, *_errors(), "", *_events(), ""])


def _errors() -> Iterator[str]:
    yield "## Errors\n\nThe exit code is that of a process or command that ends by the error.\n"
    yield "| code | class | | retriable | exit code |\n|---|---|---|---|---|"
    for error in error_classes():
        summary = re.split(r"(?<=\.)\s", inspect.getdoc(error) or "")[0].replace("\n", " ")
        ours = issubclass(error, MillstreamError)
        retriable = "yes" if ours and error.retriable else ""
        yield _row(f"`{code_of(error)}`", f"`{error.__name__}`", summary, retriable, str(_exit(error)) if ours else "")


def _exit(error: type[BaseException]) -> int:
    if issubclass(error, MISCONFIGURATIONS):
        return int(Exit.MISCONFIGURED)
    return int(Exit.SLOT_TAKEN if issubclass(error, SlotTaken) else Exit.FAILED)


def _events() -> Iterator[str]:
    yield "## Log events\n"
    yield "| code | level | message | room | see |\n|---|---|---|---|---|"
    mentioned = _mentions()
    calls = log_calls()
    for code in sorted({call.code for call in calls if call.code}):
        same = [call for call in calls if call.code == code]
        levels, rooms = (
            ", ".join(sorted(set(column))) for column in zip(*((c.level, c.room) for c in same), strict=True)
        )
        words = "; ".join(dict.fromkeys(call.words for call in same))
        yield _row(f"`{code}`", levels, words, rooms, ", ".join(mentioned.get(code, [])))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _tree(error: type[MillstreamError]) -> Iterator[type[MillstreamError]]:
    yield error
    for below in error.__subclasses__():
        if below.__module__.startswith("millstream."):
            yield from _tree(below)


def _calls_of(path: Path) -> Iterator[LogCall]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level)) if level in LEVELS:
                words = _words(node.args[0])
                level = "error" if level == "exception" else level
                yield LogCall(str(path.relative_to(SOURCE)), node.lineno, level, _code(node), words)


def _code(call: ast.Call) -> str | None:
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                return code
            # As loggers of the standard library take it.
            case ast.keyword(
                arg="extra", value=ast.Dict(keys=[ast.Constant("code")], values=[ast.Constant(str(code))])
            ):
                return code
    return None


def _words(message: ast.expr) -> str:
    match message:
        case ast.Constant(value=str(text)):
            return re.sub(r"%[srd]", "…", text)
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
    return "…"


def _mentions() -> dict[str, list[str]]:
    """Return, by code, links to the chapters of the documentation that mention it."""
    found: dict[str, list[str]] = {}
    for file in sorted(set(DOCS.glob("*.md")) - {PAGE}):
        heading = anchor = ""
        for line in file.read_text().splitlines():
            if line.startswith("#"):
                heading = line.lstrip("# ").replace("`", "")
                anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            link = f"[{heading}]({file.name}#{anchor})"
            quoted, in_json = re.findall(r"`([a-z_]+)`", line), re.findall(r'"(?:event\.)?code": "([a-z_]+)"', line)
            for code in chain(quoted, in_json):
                if "_" in code and link not in found.setdefault(code, []):
                    found[code].append(link)
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
