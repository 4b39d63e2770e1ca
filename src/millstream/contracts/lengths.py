"""The lengths, blocks and times that generated decoders do not read inline: they are long, odd, or hostile."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from millstream.contracts.varint import EPOCH, read_long


def read_length(b: Sequence[int], p: int) -> tuple[int, int]:
    """A length, doubled as short ones are, and where it ends. Raises `EOFError` where less than that is left."""
    n, p = read_long(b, p)
    if n < 0 or n > len(b) - p:
        raise EOFError
    return n << 1, p


def read_step(b: Sequence[int], p: int) -> tuple[int, int]:
    """The distance from the last byte of a length to the end of what it counts, and where that byte is."""
    n, p = read_long(b, p)
    if n < 0 or n > len(b) - p:
        raise EOFError
    return n + 1, p - 1


def read_block(b: Sequence[int], p: int) -> tuple[int, int]:
    """The number of items in a block, doubled, and where they begin."""
    n, p = read_long(b, p)
    if n < 0:  # the block says how many bytes it has, for readers that pass over it
        n = -n
        _, p = read_long(b, p)
    if n > len(b) - p:
        raise EOFError
    return n << 1, p


def read_timestamp(b: Sequence[int], p: int) -> tuple[datetime, int]:
    """A time of any year."""
    n, p = read_long(b, p)
    return EPOCH + timedelta(0, 0, n), p
