"""The words of a .proto text, one after the other."""

import re
from typing import NoReturn

from millstream.schemas.formats import InvalidSchema

_TOKEN = re.compile(
    r"""
    (?: \s++ | //[^\n]*+ | /\*.*?\*/ )*+
    (?:
        (?P<word> [A-Za-z_][A-Za-z0-9_]*+ )
      | (?P<number> 0[xX][0-9A-Fa-f]++ | (?: [0-9]++ \.? [0-9]*+ | \.[0-9]++ ) (?: [eE][+-]?[0-9]++ )? )
      | (?P<string> "(?: [^"\\\n] | \\. )*+" | '(?: [^'\\\n] | \\. )*+' )
      | (?P<mark> [{}()\[\]<>=;,.:/+-] )
      | (?P<end> \Z )
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:[xX]([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_SIMPLE = {ord(a): b for a, b in zip("abfnrtv", b"\a\b\f\n\r\t\v", strict=True)}
_SIMPLE |= {ord(a): ord(a) for a in "\\'\"?"}


class Tokens:
    """The place of a parser: at `text`, which is of `kind` word, number, string, mark or end."""

    def __init__(self, source: str) -> None:
        self._source = source.removeprefix("\ufeff")
        self._next = 0
        self.kind = ""
        self.text = ""
        self.go_on()

    @property
    def offset(self) -> int:
        """The place in the text, a byte order mark not counted."""
        return self._next - len(self.text)

    def go_on(self) -> str:
        """Leave the word, which is returned, for the next one."""
        left = self.text
        found = _TOKEN.match(self._source, self._next)
        if found is None:
            self.refuse(f"cannot be read from here: {self._source[self._next : self._next + 30]!r}")
        self.kind = found.lastgroup or ""
        self.text = found[self.kind]
        self._next = found.end()
        return left

    def is_at(self, text: str) -> bool:
        return self.text == text and self.kind != "string"

    def skip(self, text: str) -> bool:
        """Go on if `text` is next; whether it was."""
        there = self.is_at(text)
        if there:
            self.go_on()
        return there

    def expect(self, text: str) -> None:
        if not self.skip(text):
            self.refuse(f"has {self._shown()} where {text!r} should be")

    def take(self, kind: str) -> str:
        """The next word, which must be of this kind."""
        if self.kind != kind:
            self.refuse(f"has {self._shown()} where a {kind} should be")
        return self.go_on()

    def take_string(self) -> str:
        """The value of the next strings, which are one if nothing stands between them."""
        parts = [self.take("string")[1:-1]]
        while self.kind == "string":
            parts.append(self.go_on()[1:-1])
        return "".join(map(self._unescaped, parts))

    def refuse(self, why: str) -> NoReturn:
        before = self._source[: self.offset]
        raise InvalidSchema(f"line {before.count(chr(10)) + 1} {why}")

    def _shown(self) -> str:
        return "its end" if self.kind == "end" else repr(self.text[:60])

    def _unescaped(self, literal: str) -> str:
        if "\\" not in literal:
            return literal
        # Escapes are of bytes, which need not be characters.
        return _ESCAPE.sub(self._escaped, literal.encode()).decode("utf-8", "surrogateescape")

    def _escaped(self, found: re.Match[bytes]) -> bytes:
        hexadecimal, octal, short, long, simple = found.groups()
        if simple is not None:
            if simple[0] not in _SIMPLE:
                self.refuse(f"has a string with the unknown escape \\{simple.decode('latin-1')}")
            return bytes([_SIMPLE[simple[0]]])
        if hexadecimal or octal:
            return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF])
        code = int(short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self.refuse(f"has a string with an escape that is no character: {found[0].decode()}")
        return chr(code).encode()
