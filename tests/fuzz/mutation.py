"""Changes to a stream of requests that leave most of it whole, so that the damage is met far inside the broker."""

import random
import struct
from collections.abc import Callable

from tests.fuzz.requests import framed, request, versions_of

from millstream.local.broker.api.table import APIS, FETCH, PRODUCE

MAX_BYTES = 1 << 17
_COUNTS = (b"\0", b"\x01", b"\x02", b"\x7f", b"\x80\x01", b"\xff\x7f", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f")
_NUMBERS = (-1, -2, 0, 1, 2, 255, 65_535, 1 << 20, 0x7FFFFFFF, -(1 << 31))
_OFTEN = {PRODUCE: 8, FETCH: 4, 11: 3, 14: 3, 22: 3, 24: 3, 26: 3, 28: 3}
_KEYS = tuple(key for key in APIS for _ in range(_OFTEN.get(key, 1)))
_RARELY = (20, 33, 44)  # nothing is left to ask for when every topic is deleted, or takes one byte


def frames_of(stream: bytes) -> list[bytes]:
    """The requests in a stream as a server cuts them: a length and so many bytes; the rest is the last."""
    frames = []
    at = 0
    while at + 4 <= len(stream):
        (size,) = struct.unpack_from(">i", stream, at)
        if size < 0 or at + 4 + size > len(stream):
            break
        frames.append(stream[at + 4 : at + 4 + size])
        at += 4 + size
    rest = stream[at:]
    return [*frames, rest] if rest else frames


def stream_of(frames: list[bytes]) -> bytes:
    return b"".join(map(framed, frames))


def drawn_stream(chance: random.Random) -> bytes:
    """A conversation of a few requests, some of them damaged."""
    frames = [drawn_request(chance) for _ in range(chance.choice((1, 1, 2, 3, 6)))]
    return stream_of([damaged_frame(chance, frame) if chance.random() < 0.4 else frame for frame in frames])


def drawn_request(chance: random.Random) -> bytes:
    key = chance.choice(_KEYS)
    if key in _RARELY and chance.random() < 0.9:
        key = PRODUCE
    api = APIS[key]
    known = [version for version in versions_of(key) if api.lowest <= version <= api.highest]
    return request(chance, key, chance.choice(known if known and chance.random() < 0.98 else versions_of(key)))


def changed_stream(chance: random.Random, stream: bytes, change: Callable[[bytes], bytes] | None = None) -> bytes:
    """One step further: a request more, less, twice, in another place or damaged; `change` may damage one its way."""
    frames = frames_of(stream) or [drawn_request(chance)]
    at = chance.randrange(len(frames))
    what = chance.random()
    if what < 0.2:
        frames.insert(at, drawn_request(chance))
    elif what < 0.25 and len(frames) > 1:
        del frames[at]
    elif what < 0.3:
        frames.append(frames[at])
    elif what < 0.35:
        chance.shuffle(frames)
    elif what < 0.6 and change is not None:
        frames[at] = change(frames[at])
    elif what < 0.62:
        return stream_of(frames)[: chance.randrange(1, 12)] + stream_of(frames)
    else:
        frames[at] = damaged_frame(chance, frames[at])
    return stream_of(frames)[:MAX_BYTES]


def damaged_frame(chance: random.Random, frame: bytes) -> bytes:
    """Bytes flipped, lengths and counts made large or negative, parts doubled or cut off; mostly behind the header."""
    data = bytearray(frame)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not data:
            return chance.randbytes(chance.randrange(40))
        at = chance.randrange(min(10, len(data) - 1), len(data)) if chance.random() < 0.9 else 0
        match chance.randrange(6):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at : at + 1] = chance.choice(_COUNTS)
            case 2:
                data[at : at + 4] = struct.pack(">i", chance.choice(_NUMBERS))
            case 3:
                data[at : at + 2] = struct.pack(">h", chance.choice((-1, 0, 1, 0x7FFF, -0x8000)))
            case 4:
                end = min(len(data), at + chance.randrange(1, 64))
                data[at:at] = data[at:end] * chance.choice((1, 1, 2, 50))
            case _:
                del data[at : at + chance.choice((1, 2, 4, 8, len(data)))]
    return bytes(data)
