"""From the text of a .proto file, proto2 or proto3, to its tree.

https://protobuf.dev/reference/protobuf/proto3-spec/ and proto2-spec. A parser of our own: strangers send the texts, and
parsers for Python guess at what they cannot read, or take seconds and hundreds of megabytes for a megabyte.
"""

from collections.abc import Callable

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf.nodes import (
    MAX_ENUM_NUMBER,
    MAX_NUMBER,
    Enum,
    EnumValue,
    Extend,
    Field,
    File,
    Message,
    OneOf,
    Ranges,
    Rpc,
    Service,
)
from millstream.schemas.protobuf.option_reading import OptionReader
from millstream.schemas.protobuf.tokens import Tokens

_LABELS = ("optional", "required", "repeated")


def read(text: str) -> File:
    """The file that `text` describes; what its names mean is not asked. Raises `InvalidSchema`.

    >>> read('syntax = "proto3"; message Order { string id = 1; }').messages[0].fields[0].type
    'string'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidSchema("it has half a character, a lone surrogate, which has no form in UTF-8") from None
    return _Reader(Tokens(text)).file()


class _Reader(OptionReader):
    def file(self) -> File:
        at, file = self.at, File()
        if at.is_at("edition"):
            at.refuse("is written in an edition; this registry reads proto2 and proto3")
        if at.skip("syntax"):
            at.expect("=")
            file.syntax = at.take_string()
            if file.syntax not in ("proto2", "proto3"):
                at.refuse(f"has the syntax {file.syntax!r}; it must be proto2 or proto3")
            at.expect(";")
        while at.kind != "end":
            self._statement(file)
        return file

    def _statement(self, file: File) -> None:
        at, begin = self.at, self.at.offset
        if at.skip(";"):
            return
        if at.skip("import"):
            public = at.skip("public")
            if not public:
                at.skip("weak")
            (file.public_imports if public else file.imports).append(at.take_string())
            at.expect(";")
        elif at.skip("package"):
            if file.package:
                at.refuse("names a package again")
            file.package = self.name()
            at.expect(";")
        elif at.skip("option"):
            file.options.append(self.option(";"))
        elif at.skip("message"):
            file.messages.append(self._message(begin))
        elif at.skip("enum"):
            file.enums.append(self._enum(begin))
        elif at.skip("extend"):
            file.extends.append(self._extend())
        elif at.skip("service"):
            file.services.append(self._service())
        else:
            at.refuse(f"has {at.text[:60]!r} where a declaration should begin")

    def _message(self, begin: int) -> Message:
        message = Message(self.identifier(), at=begin)
        self._block(lambda: self._member(message))
        return message

    def _member(self, message: Message) -> None:
        at, begin = self.at, self.at.offset
        if at.skip("message"):
            message.messages.append(self._message(begin))
        elif at.skip("enum"):
            message.enums.append(self._enum(begin))
        elif at.skip("option"):
            message.options.append(self.option(";"))
        elif at.skip("oneof"):
            message.oneofs.append(self._oneof(begin))
        elif at.skip("extensions"):
            message.extensions.append(self._ranges(MAX_NUMBER))
        elif at.skip("reserved"):
            message.reserved.append(self._ranges(MAX_NUMBER))
        elif at.skip("extend"):
            message.extends.append(self._extend())
        else:
            message.fields.append(self._field(labelled=True))

    def _field(self, *, labelled: bool) -> Field:
        at, begin = self.at, self.at.offset
        label = at.go_on() if labelled and at.kind == "word" and at.text in _LABELS else ""
        kind, key = self.name(), ""
        if kind == "map" and at.skip("<"):
            if label:
                at.refuse(f"has a map that is {label}; a map has no label")
            key = self.name()
            at.expect(",")
            kind = self.name()
            at.expect(">")
        if kind == "group" and at.kind == "word" and at.text[0].isupper():
            return self._group(label, begin)
        name = self.identifier()
        at.expect("=")
        made = Field(name, self.integer(), kind, label, key=key, at=begin)
        made.options = self.bracketed_options()
        at.expect(";")
        return made

    def _group(self, label: str, begin: int) -> Field:
        name = self.identifier()
        self.at.expect("=")
        made = Field(name.lower(), self.integer(), name, label, at=begin)
        made.options = self.bracketed_options()
        made.group = body = Message(name, at=begin)
        self._block(lambda: self._member(body))
        return made

    def _oneof(self, begin: int) -> OneOf:
        oneof = OneOf(self.identifier(), at=begin)

        def member() -> None:
            if self.at.skip("option"):
                oneof.options.append(self.option(";"))
                return
            made = self._field(labelled=False)
            if made.key:
                self.at.refuse("has a map in a oneof")
            oneof.fields.append(made)

        self._block(member)
        return oneof

    def _extend(self) -> Extend:
        extend = Extend(self.name())
        self._block(lambda: extend.fields.append(self._field(labelled=True)))
        return extend

    def _enum(self, begin: int) -> Enum:
        enum = Enum(self.identifier(), at=begin)

        def member() -> None:
            if self.at.skip("option"):
                enum.options.append(self.option(";"))
            elif self.at.skip("reserved"):
                enum.reserved.append(self._ranges(MAX_ENUM_NUMBER))
            else:
                name = self.identifier()
                self.at.expect("=")
                enum.values.append(EnumValue(name, self.integer(), self.bracketed_options()))
                self.at.expect(";")

        self._block(member)
        return enum

    def _service(self) -> Service:
        service = Service(self.identifier())

        def member() -> None:
            if self.at.skip("option"):
                service.options.append(self.option(";"))
                return
            self.at.expect("rpc")
            service.rpcs.append(self._rpc())

        self._block(member)
        return service

    def _rpc(self) -> Rpc:
        at = self.at
        name = self.identifier()
        takes_stream, takes = self._passed()
        at.expect("returns")
        gives_stream, gives = self._passed()
        rpc = Rpc(name, takes, gives, takes_stream, gives_stream)
        if not at.is_at("{"):
            at.expect(";")
            return rpc

        def member() -> None:
            at.expect("option")
            rpc.options.append(self.option(";"))

        self._block(member)
        return rpc

    def _passed(self) -> tuple[bool, str]:
        self.at.expect("(")
        stream = self.at.skip("stream")
        name = "stream" if stream and self.at.is_at(")") else self.name()
        self.at.expect(")")
        return stream and name != "stream", name

    def _block(self, member: Callable[[], None]) -> None:
        at = self.at
        at.expect("{")
        self.deeper()
        while not at.skip("}"):
            if not at.skip(";"):
                member()
        self.depth -= 1

    def _ranges(self, highest: int) -> Ranges:
        at = self.at
        items: list[int | tuple[int, int] | str] = []
        while True:
            if at.kind == "string":
                items.append(at.take_string())
            else:
                first = self.integer()
                if at.skip("to"):
                    items.append((first, highest if at.skip("max") else self.integer()))
                else:
                    items.append(first)
            if not at.skip(","):
                break
        options = self.bracketed_options()
        at.expect(";")
        return Ranges(tuple(items), tuple(options))
