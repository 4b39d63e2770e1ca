"""Finds names of the old dictionary in what the code defines, in help texts and on the wire. `make lint` runs it.

A name says what the thing is in the words of Kafka, Kafka Streams, databases or HTTP. Looked at are names of files,
classes, functions, parameters, variables and attributes where they are defined: not where they are used, for another
room may have to keep a name of a library.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent.parent / "src" / "millstream"
NAMED = ("runtime", "state", "kafka", "patterns", "http", "operate/dlq", "operate/cli/dlq")
"""Folders whose definitions are checked."""
PROSE = ("runtime", "state", "kafka", "patterns", "http", "telemetry", "contracts", "declare", "schemas", "timeouts.py")
"""Folders and files in whose docstrings, comments and messages the actor has a name."""
HELP = ("operate/cli",)
"""Folders whose help texts and options are checked."""
WIRE = ("telemetry/metrics.py", "runtime", "operate/dlq")
"""Files whose names of metrics, labels, headers and fields of records are checked."""

PARTS = {
    "aside": "dead_letter",
    "clerk": "executor",
    "condemn": "dead_letter",
    "crew": "worker threads",
    "deed": "action",
    "desk": "runner",
    "follower": "later event",
    "insist": "retry_until",
    "keeping": "internal store",
    "kept": "internal store, stored",
    "lane": "key queue",
    "lent": "proxy",
    "letter": "dead letter",
    "meeting": "reader_for_schema",
    "misfit": "incompatibility",
    "most": "limit, max",
    "office": "context",
    "overtaken": "superseded; in SQL a position conflict",
    "overtaking": "superseding",
    "overtook": "superseded",
    "patience": "timeout",
    "persist": "retry_handler",
    "person": "actor, operator",
    "place": "partition, partition task",
    "rescue": "on_error",
    "seldom": "log_throttle",
    "serial": "transaction_number",
    "settling": "metadata_wait",
    "shelf": "internal store",
    "standing": "committed",
    "supervised": "child process",
    "tally": "worker metrics",
    "telling": "reporter",
    "told": "messages, reported",
    "torn": "pending_error",
    "way": "route",
}
"""Words that no name may have as a part, in singular."""

WHOLE = {
    "caller": "invoker",
    "explain": "error_detail",
    "failing": "failure handler",
    "fate": "request outcome",
    "gate": "check",
    "given": "handler context",
    "judge": "compare",
    "lean": "lean_imports",
    "length": "varint",
    "life": "incarnation",
    "membership": "group metadata",
    "meta": "event metadata",
    "shape": "type_model",
    "sign": "liveness",
    "step": "completion",
    "walk": "validator",
    "work": "in flight, plan",
}
"""Words that may be a part of a name, or a variable, but not the whole name of a class, function or file."""

OWN = {("saga.py", "step")}
"""Names of patterns that are words of theirs: a saga has steps."""

TEXTS = {
    r"(?<![Dd]ead[ -])\b[Ll]etters?\b": "dead letter",
    r"\bhand(?:s|ed|ing)? (?:\w+ )?in\b": "redrive",
    r"\bset(?:s|ting)? aside\b": "dead-letter",
    r"\bovert(?:aken?|akes|aking|ook)\b": "supersede",
    r"\bso many\b": "at most N, a limit",
    r"\bdeeds?\b": "action",
    r"--(?:most|most-redrives|overtaken|why)\b": "--limit, --max-redrives, --allow-reorder, --comment",
    r"\b(?:somebody|nobody|whoever)\b": "the actor: an operator, another process",
    r"\banew\b": "again",
}
"""Words of help texts."""

ACTORS = r"(?i)\b(?:somebody|nobody|whoever|anew)\b"

FIELDS = {
    "deed": "action",
    "letter": "dead_letter",
    "passed_over": "skipped",
    "why": "comment, reason",
    "unjudged": "reason",
    "overtaken": "superseded",
}
"""Words of the wire: labels, outcomes, fields and codes."""


class Finding(NamedTuple):
    """A name or text that should be another."""

    file: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}: write {self.instead}"


def findings(source: Path = SOURCE) -> Iterator[Finding]:
    """Yield what is wrong in the checked folders."""
    for file in _files(source, NAMED):
        yield from in_names(file)
    for file in _files(source, PROSE):
        yield from in_prose(file)
    for file in _files(source, HELP):
        yield from in_help(file)
    for file in _files(source, WIRE):
        yield from in_fields(file)


def in_names(file: Path) -> Iterator[Finding]:
    """Yield the file's name and the definitions in it that have an old word."""
    for name, line, whole in [(file.stem, 1, True), *_defined(ast.parse(file.read_text()))]:
        if (file.name, name) not in OWN and (instead := better(name, whole=whole)):
            yield Finding(file, line, name, instead)


def in_prose(file: Path) -> Iterator[Finding]:
    """Yield the lines of a file that do not name who acts."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        for found in re.finditer(ACTORS, line):
            yield Finding(file, number, found[0], "the actor: an operator, another process; again")


def in_help(file: Path) -> Iterator[Finding]:
    """Yield the help texts of options, and docstrings, that have an old word."""
    tree = ast.parse(file.read_text())
    for text in _help_texts(tree):
        for pattern, instead in TEXTS.items():
            for found in re.finditer(pattern, str(text.value)):
                yield Finding(file, text.lineno, found[0], instead)


def in_fields(file: Path) -> Iterator[Finding]:
    """Yield the string constants that are an old word of the wire."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and node.value in FIELDS:
            yield Finding(file, node.lineno, repr(node.value), FIELDS[node.value])


def better(name: str, *, whole: bool = True) -> str | None:
    """Return what to write instead of a name; `None` where it is well.

    - `whole`: for a class, function or file, whose name may not consist of a vague word.

    >>> better("KafkaPlace"), better("dead_letter"), better("placement"), better("_works")
    ('partition, partition task', None, None, 'in flight, plan')
    """
    words = [_singular(word) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    if whole and len(words) == 1 and words[0] in WHOLE:
        return WHOLE[words[0]]
    for before, word in zip(["", *words], words, strict=False):
        if word in PARTS and (before, word) not in {("dead", "letter"), ("half", "way")}:
            return PARTS[word]
    return None


def _singular(word: str) -> str:
    word = word.lower()
    if word == "lives":
        return "life"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _files(source: Path, folders: Iterable[str]) -> Iterator[Path]:
    for folder in folders:
        path = source / folder
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _defined(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno, True
            case ast.arg(arg=name):
                yield name, node.lineno, False
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno, False
            case ast.alias(asname=str(name)):
                yield name, node.lineno, False
            case _:
                pass


def _help_texts(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str()) as text), *_]):
                # Typer shows a command's docstring.
                if not node.name.startswith("_"):
                    yield text
            case ast.Call(func=ast.Attribute(attr="Option" | "Argument" | "Typer"), args=arguments, keywords=keywords):
                for value in [*arguments, *(one.value for one in keywords)]:
                    yield from (
                        one for one in ast.walk(value) if isinstance(one, ast.Constant) and type(one.value) is str
                    )
            case _:
                pass


if __name__ == "__main__":
    found = list(findings())
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
