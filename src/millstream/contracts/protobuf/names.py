"""The names of the messages in a `.proto` file, by the indexes that frames give them. Nothing else is understood."""

import re

from millstream.errors import DecodeError

# Comments and texts that never end are taken to the end, so that nothing is read twice.
_WORD = re.compile(
    r"""//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|[A-Za-z_.][\w.]*|[{};]""",
    re.DOTALL,
)
_MOST_DEPTH = 32


def message_names(text: str) -> dict[tuple[int, ...], str]:
    """Every message's full name, nested ones too. Raises `DecodeError` (`unreadable_schema`).

    >>> message_names('syntax = "proto3"; package a.b; message One { message Inner {} } message Two {}')
    {(0,): 'a.b.One', (0, 0): 'a.b.One.Inner', (1,): 'a.b.Two'}
    """
    names: dict[tuple[int, ...], str] = {}
    package = ""
    path: list[tuple[int, str] | None] = []  # of open braces: messages by index and name, anything else None
    counts = [0]
    statement: list[str] = []
    for word in _WORD.findall(text):
        if word[0] in "/\"'":
            continue
        if word not in "{};":
            statement.append(word)
            continue
        if word == "{":
            message = len(statement) == 2 and statement[0] == "message" and None not in path
            path.append((counts[-1], statement[1]) if message else None)
            if message:
                indexes = tuple(step[0] for step in path if step)
                names[indexes] = ".".join(filter(None, [package, *(step[1] for step in path if step)]))
                counts[-1] += 1
                counts.append(0)
        elif word == "}":
            if not path:
                raise DecodeError("unreadable_schema", "the .proto file closes a brace that it did not open")
            if path.pop() is not None:
                counts.pop()
        elif not path and statement[:1] == ["package"] and len(statement) == 2:
            package = statement[1]
        if len(path) > _MOST_DEPTH:
            raise DecodeError("unreadable_schema", "the .proto file is nested too deep")
        statement.clear()
    return names
