"""Generates the encoder of a contract: from the Struct straight to framed bytes.

Structs do not check what they are built from, so the encoder must. It uses operations that fail by themselves on a
wrong type, and leaves it to `explain` to find the words afterwards.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from functools import cache
from typing import Any, NoReturn
from uuid import UUID

from millstream.contracts.source import Source
from millstream.contracts.varint import EPOCH, EPOCH_DAY, long_bytes, micros_of_day
from millstream.declare.shape import (
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    python_class,
)

Failed = Callable[[Any, Exception], Exception]

# Indexed by the number itself: Python counts negative indexes from the end, where the negative numbers are.
_SMALL = (*map(long_bytes, range(1024)), *map(long_bytes, range(-1024, 0)))


@cache
def _pairs() -> dict[str, tuple[bytes, ...]]:
    """Two bytes of a long number at once, and its last two. They take 1 MB: made only for contracts with times."""
    return {
        "PAIRS": tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14)),
        "LAST": tuple(bytes((n & 127 | 128, n >> 7)) for n in range(1 << 11)),
    }


def generate_encoder(record: Record, prefix: bytes, failed: Failed) -> Callable[[Any], bytes]:
    """A function from the Struct to `prefix` and its Avro bytes.

    Whatever goes wrong inside is handed to `failed` with the Struct; what that returns is raised.
    """
    encoder = _Encoder()
    source = encoder.source
    source.constants |= _RUNTIME | {"failed": failed, "PREFIX": prefix}
    with source.block("def encode(x):"):
        with source.block("try:"):
            encoder.pending.append("PREFIX")
            encoder.unrolled(record, "x")
            encoder.finish()
        with source.block("except Exception as error:"):
            source.line("raise failed(x, error) from None")
    for name, shape in source.parts():
        with source.block(f"def {name}(x, out):"):
            encoder.unrolled(shape, "x")
            encoder.flush()
    return source.compile("encode", f"encode {record.name}")


class _Encoder:
    """Collects expressions of bytes, and writes them out where the control flow splits."""

    def __init__(self) -> None:
        self.source = Source()
        self.pending: list[str] = []
        self._has_out = False

    def finish(self) -> None:
        if self._has_out:
            self.flush()
            self.source.line("return join(out)")
        else:
            self.source.line(f"return join(({', '.join(self.pending)},))")
            self.pending.clear()
            self._has_out = True  # the functions that follow are given one

    def flush(self) -> None:
        if not self._has_out:
            self.source.line(f"out = [{', '.join(self.pending)}]")
            self._has_out = True
        elif len(self.pending) == 1:
            self.source.line(f"out.append({self.pending[0]})")
        elif self.pending:
            self.source.line(f"out += ({', '.join(self.pending)})")
        self.pending.clear()

    def write(self, shape: Shape | None, value: str) -> None:
        if shape is None:
            return
        if function := self.source.apart(shape):
            self.flush()
            self.source.line(f"{function}({value}, out)")
        else:
            self.unrolled(shape, value)

    def unrolled(self, shape: Shape, value: str) -> None:
        match shape:
            case Scalar() | Decimals() | Symbols():
                self.pending += self._simple(shape, value)
            case Items(container=container, item=item):
                self._insist(value, container.__name__)
                with self._blocks(value):
                    inner = self.source.fresh()
                    with self.source.block(f"for {inner} in {value}:"):
                        self.write(item, inner)
                        self.flush()
            case Fixed(parts=parts):
                self._insist(value, "tuple")
                names = [self.source.fresh() for _ in parts]
                self.source.line(f"{', '.join(names)}, = {value}")
                for name, part in zip(names, parts, strict=True):
                    self.write(part, name)
            case Entries(value=entry):
                self._insist(value, "dict")
                with self._blocks(value):
                    key, inner = self.source.fresh("k"), self.source.fresh()
                    with self.source.block(f"for {key}, {inner} in {value}.items():"):
                        self.pending += self._string(key)
                        self.write(entry, inner)
                        self.flush()
            case OneOf(branches) if all(isinstance(branch, Scalar | Decimals | Symbols | None) for branch in branches):
                self._simple_union(branches, value)
            case OneOf(branches):
                self._union(branches, value)
            case Record():
                self._insist(value, self.source.constant("class_", shape.python))
                for field in shape.fields:
                    inner = self.source.fresh()
                    self.source.line(f"{inner} = {value}.{field.attribute}")
                    self.write(field.shape, inner)

    def _insist(self, value: str, name: str) -> None:
        with self.source.block(f"if type({value}) is not {name}:"):
            self.source.line(f"refuse({value})")

    @contextmanager
    def _blocks(self, value: str) -> Iterator[None]:
        """One block with all items, where there are any; an array and a map end with an empty block."""
        self.flush()
        length = self.source.fresh("n")
        with self.source.block(f"if {length} := len({value}):"):
            self.pending.append(_number(length))
            self.flush()
            yield
        self.pending.append('b"\\0"')

    def _simple(self, shape: Scalar | Decimals | Symbols, value: str) -> list[str]:
        """The expressions of a value without parts, after the statements that they need."""
        source = self.source
        match shape:
            case Decimals(precision, scale):
                traps = [Inexact, InvalidOperation, Overflow]
                context = source.constant("context", Context(prec=precision, Emax=precision - 1, traps=traps))
                exponent = source.constant("exponent", Decimal(scale))
                scaled, whole, raw = source.fresh("d"), source.fresh("i"), source.fresh("s")
                source.line(f"{whole} = int({scaled} := {value}.scaleb({exponent}, {context}))")
                with source.block(f"if {whole} != {scaled}:"):
                    source.line(f"refuse({value})")
                source.line(f'{raw} = {whole}.to_bytes(({whole}.bit_length() >> 3) + 1, "big", signed=True)')
                return [f"SMALL[len({raw})]", raw]
            case Symbols(members=members):
                by_member = {member: long_bytes(number) for number, member in enumerate(members.values())}
                return [f"{source.constant('symbols', by_member)}[{value}]"]
            case Scalar(python=python):
                return self._scalar(python, value)

    def _scalar(self, python: type, value: str) -> list[str]:
        source = self.source
        if python is str:
            return self._string(value)
        if python is datetime:
            gap, micros = source.fresh("d"), source.fresh("z")
            source.line(f"{gap} = {value} - EPOCH")
            source.line(f"{micros} = (({gap}.days * 86400 + {gap}.seconds) * 1000000 + {gap}.microseconds) << 1")
            return self._micros(micros)
        if python is bool:
            return [f'b"\\1" if {value} is True else b"\\0" if {value} is False else refuse({value})']
        if python is float:
            return [f"double({value}) if type({value}) is float else whole_double({value})"]
        self._insist(value, python.__name__)
        if python is int:
            return [f"SMALL[{value}] if -1024 <= {value} < 1024 else long_bytes({value})"]
        if python is bytes:
            length = source.fresh("n")
            source.line(f"{length} = len({value})")
            return [_number(length), value]
        if python is date:
            return [f"long_bytes({value}.toordinal() - EPOCH_DAY)"]
        if python is time:
            return [f"long_bytes(micros_of_day({value}))"]
        if python is timedelta:
            return [f"long_bytes(({value}.days * 86400 + {value}.seconds) * 1000000 + {value}.microseconds)"]
        return ['b"\\x48"', f"str({value}).encode()"]

    def _micros(self, micros: str) -> list[str]:
        self.source.constants |= _pairs()
        names = [self.source.fresh("z") for _ in range(4)]
        with self.source.block(f"if {1 << 49} <= {micros} < {1 << 53}:"):  # 1978 to 2112: eight bytes
            for at, name in enumerate(names[:3]):
                self.source.line(f"{name} = PAIRS[{micros} >> {14 * at} & 16383]")
            self.source.line(f"{names[3]} = LAST[{micros} >> 42]")
        with self.source.block("else:"):
            self.source.line(f"{names[0]} = long_bytes({micros} >> 1)")
            self.source.line(f'{names[1]} = {names[2]} = {names[3]} = b""')
        return names

    def _string(self, value: str) -> list[str]:
        raw, length = self.source.fresh("s"), self.source.fresh("n")
        self.source.line(f"{length} = len({raw} := {value}.encode())")
        return [_number(length), raw]

    def _simple_union(self, branches: tuple[Any, ...], value: str) -> None:
        """Every branch fills the same names, so that nothing has to be flushed before or after."""
        names = [self.source.fresh("u") for _ in range(1 + max(map(_width, branches)))]
        for number, branch in self._branches(branches, value):
            parts = [f"{long_bytes(number)!r}"]
            if branch is not None:
                parts += self._simple(branch, value)
            parts += ['b""'] * (len(names) - len(parts))
            for name, part in zip(names, parts, strict=True):
                self.source.line(f"{name} = {part}")
        self.pending += names

    def _union(self, branches: tuple[Shape | None, ...], value: str) -> None:
        self.flush()
        for number, branch in self._branches(branches, value):
            self.pending.append(f"{long_bytes(number)!r}")
            self.write(branch, value)
            self.flush()

    def _branches(self, branches: tuple[Shape | None, ...], value: str) -> Iterator[tuple[int, Any]]:
        """Opens the block of one branch after the other."""
        optional = len(branches) == 2 and None in branches
        ordered = sorted(enumerate(branches), key=lambda numbered: numbered[1] is not None)
        for position, (number, branch) in enumerate(ordered):
            head = f"type({value}) is {self.source.constant('class_', python_class(branch))}"
            if branch is None:
                head = f"{value} is None"
            last = optional and position == 1  # its own checks suffice
            with self.source.block("else:" if last else f"{'elif' if position else 'if'} {head}:"):
                yield number, branch
        if not optional:
            with self.source.block("else:"):
                self.source.line(f"refuse({value})")


def _width(branch: Scalar | Decimals | Symbols | None) -> int:
    """The number of expressions that a value without parts makes."""
    match branch:
        case None:
            return 0
        case Scalar(python=python):
            return 4 if python is datetime else 2 if python in (str, bytes, UUID) else 1
        case Decimals():
            return 2
        case Symbols():
            return 1


def _number(name: str) -> str:
    return f"SMALL[{name}] if {name} < 1024 else long_bytes({name})"


def _refuse(value: Any) -> NoReturn:
    raise TypeError(value)


def _whole_double(value: Any) -> bytes:
    if type(value) is not int:
        raise TypeError(value)
    return struct.pack("<d", value)


_RUNTIME: dict[str, Any] = {
    "SMALL": _SMALL,
    "EPOCH": EPOCH,
    "EPOCH_DAY": EPOCH_DAY,
    "UUID": UUID,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "micros_of_day": micros_of_day,
    "join": b"".join,
    "long_bytes": long_bytes,
    "double": struct.Struct("<d").pack,
    "whole_double": _whole_double,
    "refuse": _refuse,
}
