"""Reading what a .proto file is made of everywhere: names, whole numbers, and options with their values."""

from millstream.schemas.protobuf.nodes import Block, Option, Value, Word
from millstream.schemas.protobuf.tokens import Tokens

MAX_DEPTH = 32
"""The depth to which messages, or the blocks of an option, may be nested in each other; it is `protoc`'s limit, too."""
MAX_NAME = 512
"""Characters of one name, with its dots: looking a name up tries it after every dot of where it is used."""


class OptionReader:
    """Reads on from where `at` is."""

    def __init__(self, tokens: Tokens) -> None:
        self.at = tokens
        self.depth = 0

    def deeper(self) -> None:
        # A refusal ends the reading: only a block that was read has to count down again.
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.at.refuse(f"is nested too deeply: more than {MAX_DEPTH} blocks in each other")

    def bracketed_options(self) -> list[Option]:
        options: list[Option] = []
        if self.at.skip("["):
            while True:
                options.append(self.option(""))
                if not self.at.skip(","):
                    break
            self.at.expect("]")
        return options

    def option(self, end: str) -> Option:
        at = self.at
        parts: list[str] = []
        while True:
            if at.skip("("):
                parts.append(f"({self.name()})")
                at.expect(")")
            else:
                parts.append(self.identifier())
            if not at.skip("."):
                break
        at.expect("=")
        option = Option(".".join(parts), self.value())
        if end:
            at.expect(end)
        return option

    def value(self) -> Value:
        at = self.at
        if at.kind == "string":
            return at.take_string()
        if at.skip("{"):
            return self._aggregate("}")
        if at.skip("<"):
            return self._aggregate(">")
        if at.skip("["):
            return self._list()
        sign = at.go_on() if at.kind == "mark" and at.text in "+-" else ""
        if at.kind not in ("word", "number"):
            at.refuse(f"has {at.text[:60]!r} where a value should be")
        return Word(sign.removeprefix("+") + at.go_on())

    def _list(self) -> Value:
        self.deeper()
        items: list[Value] = []
        while not self.at.skip("]"):
            items.append(self.value())
            if not self.at.is_at("]"):
                self.at.expect(",")
        self.depth -= 1
        return items

    def _aggregate(self, end: str) -> Block:
        at = self.at
        self.deeper()
        entries: list[tuple[str, Value]] = []
        while not at.skip(end):
            if at.skip("["):
                name = self.name("/")
                at.expect("]")
                key = f"[{name}]"
            else:
                key = self.identifier()
            if not at.skip(":") and not (at.is_at("{") or at.is_at("<") or at.is_at("[")):
                at.expect(":")
            entries.append((key, self.value()))
            if not at.skip(","):
                at.skip(";")
        self.depth -= 1
        return Block.of(entries)

    def name(self, more: str = "") -> str:
        """Identifiers with dots between them, and before them if it is a name from the root."""
        at = self.at
        parts = [at.go_on()] if at.is_at(".") else []
        parts.append(self.identifier())
        while at.is_at(".") or (more and at.is_at(more)):
            parts += (at.go_on(), self.identifier())
        name = "".join(parts)
        if len(name) > MAX_NAME:
            at.refuse(f"has a name of more than {MAX_NAME} characters")
        return name

    def identifier(self) -> str:
        name = self.at.take("word")
        if len(name) > MAX_NAME:
            self.at.refuse(f"has a name of more than {MAX_NAME} characters")
        return name

    def integer(self) -> int:
        at = self.at
        sign = -1 if at.skip("-") else 1
        text = at.take("number")
        octal = text.startswith("0") and text.isdigit()
        # Python would take a very long time for very many digits, and no number here has that many.
        if len(text) > 20:
            at.refuse(f"has the number {text[:20]}…, which is too large")
        try:
            return sign * int(text, 8 if octal else 0)
        except ValueError:
            at.refuse(f"has {text!r} where a whole number should be")
