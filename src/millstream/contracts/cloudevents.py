"""CloudEvents in structured mode: the whole event, attributes and data, is one JSON object in the record's value.

https://github.com/cloudevents/spec: `bindings/kafka-protocol-binding.md` (3.3) and `formats/json-format.md`.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from millstream.contracts.json import guarded
from millstream.contracts.meeting import Expected, Read
from millstream.errors import DecodeError

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"

_UNSAID = msgspec.Raw()


class _Whole(msgspec.Struct):
    """The members that reading the data needs. What the JSON has beside them is passed over."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str | None = None
    data: msgspec.Raw = _UNSAID
    data_base64: str | None = None


class _Attributes(msgspec.Struct):
    """The members that make an envelope. Extensions may have any type, and texts only are taken."""

    id: Any = None
    correlationid: Any = None
    type: Any = None
    source: Any = None
    time: Any = None
    causationid: Any = None
    traceparent: Any = None


_whole = msgspec.json.Decoder(_Whole).decode
_attributes = msgspec.json.Decoder(_Attributes).decode
_HEADERS = {"id": "ce_id", "type": "ce_type", "source": "ce_source", "time": "ce_time"}


def structured(data: bytes, headers: "Sequence[tuple[str, bytes | None]]") -> bytes:
    """The whole event: `data`, which is JSON, with the attributes that its headers in binary mode have.

    >>> structured(b'{"grams":850}', [("ce_id", b"e-1"), ("correlationid", b"e-0"), ("content-type", CONTENT_TYPE)])
    b'{"id":"e-1","correlationid":"e-0","datacontenttype":"application/json","data":{"grams":850}}'
    """
    attributes = {
        name.removeprefix("ce_"): value.decode()
        for name, value in headers
        if name != "content-type" and value is not None
    }
    return msgspec.json.encode(attributes | {"datacontenttype": "application/json", "data": msgspec.Raw(data)})


def headers_in(value: bytes | None) -> list[tuple[str, bytes | None]]:
    """The attributes of a whole event as headers in binary mode. Never raises: without any if it is none.

    >>> headers_in(b'{"specversion":"1.0","id":"e-1","source":"/scales","type":"weighed"}')
    [('ce_id', b'e-1'), ('ce_type', b'weighed'), ('ce_source', b'/scales')]
    """
    try:
        found = msgspec.structs.asdict(_attributes(value or b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # no event at all: decoding says so
        return []
    return [(_HEADERS.get(name, name), text.encode()) for name, text in found.items() if isinstance(text, str)]


def cloudevents_decoder(expected: Expected) -> Callable[[bytes | None], Any]:
    """A function from a whole event to one of the expected classes, which its `type` names. It raises `DecodeError`."""
    readers: dict[str, Read] = {}

    def decode(value: bytes) -> Any:
        whole = _whole(value)
        data = _data(whole)
        read = readers.get(whole.type)
        if read is None:
            read = readers[whole.type] = expected.json_reader(whole.type)
        return read(data)

    return guarded(decode)


def _data(whole: _Whole) -> bytes:
    if whole.specversion.partition(".")[0] != "1":
        raise DecodeError("invalid", f"$.specversion is {whole.specversion[:20]!r}; 1.0 is read")
    for name in ("id", "source", "type"):
        if not getattr(whole, name):
            raise DecodeError("invalid", f"$.{name} is empty")
    kind = (whole.datacontenttype or "application/json").partition(";")[0].strip().lower()
    if not kind.endswith(("/json", "+json")):
        raise DecodeError("unreadable_data", f"$.data is {kind[:100]}; JSON is read")
    if whole.data_base64 is None:
        if not whole.data:
            raise DecodeError("invalid", "the event has no $.data")
        return bytes(whole.data)
    if whole.data:
        raise DecodeError("invalid", "the event has both $.data and $.data_base64")
    try:
        return base64.b64decode(whole.data_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError("invalid", f"$.data_base64: {error}") from None
