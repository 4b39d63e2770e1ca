"""Requests as bytes: whatever comes, the answer is a frame or the connection is closed."""

import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.local.broker import Broker
from millstream.local.broker.api.table import APIS
from millstream.local.broker.dispatch import Session
from millstream.local.broker.wire.buffer import Malformed
from millstream.local.broker.wire.control import is_flexible

VERSIONS = [(key, version) for key, api in APIS.items() for version in range(api.lowest, api.highest + 1)]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), lambda: 1_000_000)
        broker.topics.create("t", 2, {})
        yield broker
        broker.close()


def ask(broker: Broker, key: int, version: int, body: bytes) -> list[bytes] | None:
    """The frames that were answered, None if the request was malformed."""
    frames: list[bytes] = []
    session = Session(broker, "host")
    header = struct.pack(">hhih", key, version, 7, 1) + b"c"
    try:
        session.handle(memoryview(bytearray(header + body)), frames.append)
    except Malformed:
        return None
    finally:
        broker.settle()
        session.close()
    return frames


@settings(max_examples=400)
@given(st.sampled_from(VERSIONS), st.binary(max_size=120))
def test_random_bytes_are_answered_or_refused(broker: Broker, api: tuple[int, int], body: bytes):
    frames = ask(broker, *api, body)
    for frame in frames or ():
        assert not frame or struct.unpack_from(">ii", frame) == (len(frame) - 4, 7)


@settings(max_examples=400)
@given(st.sampled_from(VERSIONS), st.integers(0, 2**32))
def test_plausible_fields_in_a_random_order_are_answered_or_refused(broker: Broker, api: tuple[int, int], seed: int):
    rng = random.Random(seed)
    flexible = is_flexible(*api) if api[0] not in (0, 1) else api[1] >= (9 if api[0] == 0 else 12)
    text = b"\x02t" if flexible else b"\0\1t"
    one = b"\x02" if flexible else b"\0\0\0\1"
    pieces = [text, one, b"\0", b"\0\0\0\0", b"\0\0\x10\0", b"\xff\xff", b"\xff\xff\xff\xff", bytes(8), b"\0\1"]
    body = (b"\0" if flexible else b"") + b"".join(rng.choice(pieces) for _ in range(rng.randrange(20)))
    frames = ask(broker, *api, body)
    for frame in frames or ():
        assert not frame or struct.unpack_from(">ii", frame) == (len(frame) - 4, 7)


def test_an_unknown_version_of_api_versions_is_answered_with_those_that_are_known(broker: Broker):
    frames = ask(broker, 18, 99, b"")
    assert frames is not None
    length, correlation, error, count = struct.unpack_from(">iihi", frames[0])
    assert (correlation, error, count) == (7, 35, len(APIS))
    assert length == len(frames[0]) - 4


@pytest.mark.parametrize(("key", "version"), [(99, 0), (0, 2), (1, 99), (68, 0)])
def test_what_is_not_spoken_is_refused(broker: Broker, key: int, version: int):
    assert ask(broker, key, version, b"\0" * 20) is None
