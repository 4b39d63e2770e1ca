"""One text for one schema, as Confluent's registry writes it: the same schema gets the same GUID anywhere.

Comments are gone; a message holds, in this order: reserved, options, fields, oneofs, groups, extensions, types.
"""

from collections.abc import Iterable, Iterator, Sequence

from millstream.schemas.protobuf.nodes import (
    MAX_NUMBER,
    Block,
    Enum,
    Extend,
    Field,
    File,
    Message,
    OneOf,
    Option,
    Ranges,
    Rpc,
    Service,
    Value,
    Word,
)

_ESCAPES = {ord(a): b for a, b in zip("\a\b\f\n\r\t\v\\'\"", (f"\\{c}" for c in "abfnrtv\\'\""), strict=True)}
_ESCAPES |= {code: f"\\{code:03o}" for code in (*range(32), 127) if code not in _ESCAPES}
# Bytes that are no characters, as the tokens were read.
_ESCAPES |= {0xDC00 + byte: f"\\{byte:03o}" for byte in range(128, 256)}


def canonical(file: File, *, extensions: bool = True) -> str:
    """The file's text, whatever its white space; without `extensions` if they do not matter.

    >>> from millstream.schemas.protobuf.reading import read
    >>> print(canonical(read('syntax="proto3";message A{int32 a=1;}')))
    syntax = "proto3";
    <BLANKLINE>
    message A {
      int32 a = 1;
    }
    <BLANKLINE>
    """
    return "".join(f"{line}\n" for line in _Printer(extensions).file(file))


def value_text(value: Value) -> str:
    """The value of an option as .proto files and Protobuf's text format spell it."""
    return "\n".join(_value(value))


class _Printer:
    def __init__(self, extensions: bool) -> None:
        self._extensions = extensions

    def file(self, file: File) -> Iterator[str]:
        if file.syntax:
            yield f'syntax = "{file.syntax}";'
        if file.package:
            yield f"package {file.package};"
        imports = [f"import {_quoted(path)};" for path in file.imports]
        imports += [f"import public {_quoted(path)};" for path in file.public_imports]
        yield from _apart(imports)
        yield from _apart(self._statements(file.options))
        yield from _apart(self._types(file.messages, file.enums))
        if self._extensions:
            yield from _apart(self._extends(file.extends))
        yield from _apart(line for service in file.services for line in self._service(service))

    def _types(self, messages: Iterable[Message], enums: Iterable[Enum]) -> Iterator[str]:
        for message in messages:
            yield from self._message(f"message {message.name}", message)
        for enum in enums:
            yield from self._enum(enum)

    def _message(self, head: str, message: Message) -> Iterator[str]:
        plain = [field for field in message.fields if field.group is None]
        groups = [field for field in message.fields if field.group is not None]
        parts = [
            [line for ranges in message.reserved for line in _ranges("reserved", ranges)],
            self._statements(message.options),
            [line for field in plain for line in self._field(field)],
            [line for oneof in message.oneofs for line in self._oneof(oneof)],
            [line for field in groups for line in self._field(field)],
        ]
        if self._extensions:
            parts.append([line for ranges in message.extensions for line in _ranges("extensions", ranges)])
            parts.append(list(self._extends(message.extends)))
        parts.append(list(self._types(message.messages, message.enums)))
        return _braced(head, parts)

    def _oneof(self, oneof: OneOf) -> Iterator[str]:
        fields = [line for field in oneof.fields for line in self._field(field)]
        return _braced(f"oneof {oneof.name}", [self._statements(oneof.options), fields])

    def _extends(self, extends: Iterable[Extend]) -> Iterator[str]:
        for extend in extends:
            yield from _braced(f"extend {extend.type}", [[x for field in extend.fields for x in self._field(field)]])

    def _field(self, field: Field) -> Iterator[str]:
        label = f"{field.label} " if field.label else ""
        # Confluent's parser keeps these two apart from the other options.
        own = [option for name in ("default", "json_name") for option in field.options if option.name == name]
        options = self._kept([option for option in field.options if option not in own] + own)
        if field.group is not None:
            *before, last = _with_options(f"{label}group {field.group.name} = {field.number}", options)
            yield from before
            yield from self._message(last, field.group)
            return
        kind = f"map<{field.key}, {field.type}>" if field.key else field.type
        yield from _ended(_with_options(f"{label}{kind} {field.name} = {field.number}", options))

    def _enum(self, enum: Enum) -> Iterator[str]:
        reserved = [line for ranges in enum.reserved for line in _ranges("reserved", ranges)]
        values = [
            line
            for value in enum.values
            for line in _ended(_with_options(f"{value.name} = {value.number}", self._kept(value.options)))
        ]
        return _braced(f"enum {enum.name}", [[*reserved, *self._statements(enum.options), *values]])

    def _service(self, service: Service) -> Iterator[str]:
        rpcs = [line for rpc in service.rpcs for line in self._rpc(rpc)]
        return _braced(f"service {service.name}", [self._statements(service.options), rpcs])

    def _rpc(self, rpc: Rpc) -> Iterator[str]:
        takes, gives = ("stream " * streams for streams in (rpc.takes_stream, rpc.gives_stream))
        head = f"rpc {rpc.name} ({takes}{rpc.takes}) returns ({gives}{rpc.gives})"
        options = self._statements(rpc.options)
        return _ended([f"{head} {{", *_indented(options), "}"] if options else [head])

    def _statements(self, options: Iterable[Option]) -> list[str]:
        return [line for option in self._kept(options) for line in _ended(_assigned("option ", option))]

    def _kept(self, options: Iterable[Option]) -> list[Option]:
        own = ("(confluent.", "(.confluent.")
        return [of for of in options if self._extensions or not of.name.startswith("(") or of.name.startswith(own)]


def _ranges(kind: str, ranges: Ranges) -> Iterator[str]:
    return _ended(_with_options(f"{kind} {', '.join(map(_range, ranges.items))}", ranges.options))


def _range(item: int | tuple[int, int] | str) -> str:
    if isinstance(item, str):
        return _quoted(item)
    if isinstance(item, int):
        return str(item)
    first, last = item
    return f"{first} to {'max' if last >= MAX_NUMBER else last}"


def _with_options(head: str, options: Sequence[Option]) -> list[str]:
    """The head, with the options in brackets if there are any."""
    if not options:
        return [head]
    if len(options) == 1:
        first, *more = _assigned("", options[0])
        lines = [f"{head} [{first}", *more]
        lines[-1] += "]"
        return lines
    return [f"{head} [", *_indented(_listed([_assigned("", option) for option in options])), "]"]


def _assigned(before: str, option: Option) -> list[str]:
    match option.value:
        case [only]:
            first, *more = _value(only)
            lines = [f"{before}{option.name} = [{first}", *more]
            lines[-1] += "]"
            return lines
        case value:
            first, *more = _value(value)
            return [f"{before}{option.name} = {first}", *more]


def _value(value: Value) -> list[str]:
    match value:
        case str():
            return [_quoted(value)]
        case Word(text):
            return [text]
        case Block(()):
            return ["{", "}"]
        case Block(entries):
            described = [[f"{key}: {first}", *more] for key, of in entries for first, *more in [_value(of)]]
            return ["{", *_indented(_listed(described)), "}"]
        case _:
            return ["[", *_indented(_listed([_value(item) for item in value])), "]"]


def _quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _listed(items: Sequence[list[str]]) -> Iterator[str]:
    """The lines of all items, with a comma after each but the last."""
    for i, lines in enumerate(items):
        yield from lines[:-1]
        yield f"{lines[-1]}," if i < len(items) - 1 else lines[-1]


def _braced(head: str, parts: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write what is in braces after `head`, an empty line between the parts that are there."""
    there = [part for part in parts if part]
    if not there:
        yield f"{head} {{}}"
        return
    yield f"{head} {{"
    for i, part in enumerate(there):
        if i:
            yield ""
        yield from _indented(part)
    yield "}"


def _apart(lines: Iterable[str]) -> Iterator[str]:
    """The lines with an empty one before them, if there are any."""
    for i, line in enumerate(lines):
        if not i:
            yield ""
        yield line


def _indented(lines: Iterable[str]) -> list[str]:
    # Empty lines, too: so does Confluent's registry, and a GUID is one of every character.
    return [f"  {line}" for line in lines]


def _ended(lines: Iterable[str]) -> Iterator[str]:
    *before, last = lines
    yield from before
    yield f"{last};"
