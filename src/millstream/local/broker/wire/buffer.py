"""Reading the primitive types of the protocol from a buffer, within its bounds."""

import struct
from uuid import UUID

_I8 = struct.Struct(">b")
_I16 = struct.Struct(">h")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")


class Malformed(Exception):
    """The bytes are not the request they claim to be; the connection is closed."""


class Reader:
    """A position in a buffer. Reading past the end raises Malformed."""

    __slots__ = ("at", "data", "flexible")

    def __init__(self, data: memoryview, flexible: bool, at: int = 0) -> None:
        self.data = data
        self.flexible = flexible
        self.at = at

    def _number(self, layout: struct.Struct) -> int:
        try:
            value = layout.unpack_from(self.data, self.at)[0]
        except struct.error:
            raise Malformed("the request ends too early") from None
        self.at += layout.size
        return value

    def int8(self) -> int:
        return self._number(_I8)

    def int16(self) -> int:
        return self._number(_I16)

    def int32(self) -> int:
        return self._number(_I32)

    def int64(self) -> int:
        return self._number(_I64)

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            values = layout.unpack_from(self.data, self.at)
        except struct.error:
            raise Malformed("the request ends too early") from None
        self.at += layout.size
        return values

    def uvarint(self) -> int:
        if self.at < len(self.data) and (byte := self.data[self.at]) < 0x80:  # as most are
            self.at += 1
            return byte
        value = shift = 0
        while True:
            if self.at >= len(self.data) or shift > 28:
                raise Malformed("a length that does not end")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise Malformed("the request ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> str | None:
        size = self.uvarint() - 1 if self.flexible else self.int16()
        if size < 0:
            return None
        try:
            return str(self.take(size), "utf-8")
        except UnicodeDecodeError:
            raise Malformed("a string that is not UTF-8") from None

    def blob(self) -> memoryview | None:
        size = self.uvarint() - 1 if self.flexible else self.int32()
        return None if size < 0 else self.take(size)

    def count(self) -> int:
        """The length of an array, -1 if it is null; never more than the bytes that are left."""
        count = self.uvarint() - 1 if self.flexible else self.int32()
        if count > len(self.data) - self.at:
            raise Malformed("an array longer than the request")
        return count

    def uuid(self) -> UUID:
        return UUID(bytes=bytes(self.take(16)))

    def tags(self) -> None:
        """Skip the tagged fields: none of those a client may send matters here."""
        if self.flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self.take(self.uvarint())


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text: str | None, *, flexible: bool) -> bytes:
    if text is None:
        return b"\0" if flexible else b"\xff\xff"
    data = text.encode()
    return (uvarint(len(data) + 1) if flexible else _I16.pack(len(data))) + data


def array_size(count: int, *, flexible: bool) -> bytes:
    return uvarint(count + 1) if flexible else _I32.pack(count)
