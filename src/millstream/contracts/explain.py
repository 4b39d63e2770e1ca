"""Finds the words for what the generated code refused: slow, exact, and only run after a failure."""

from collections.abc import Callable
from functools import cache
from typing import Any

from millstream.contracts.resolve import resolving_decoder
from millstream.contracts.schema import avro_schema
from millstream.contracts.walk import Walker
from millstream.declare.misfit import misfit
from millstream.declare.personal import has_personal
from millstream.declare.shape import Record
from millstream.errors import DecodeError, EncodeError


def why_not_encoded(record: Record) -> Callable[[Any, Exception], EncodeError]:
    """Explain to the encoder of `record` what it ran into, given the object."""
    quiet = has_personal(record.python)

    def explain(value: Any, error: Exception) -> EncodeError:
        try:
            problem = misfit(record, value, record.python.__name__)
        except RecursionError:
            problem = f"{record.python.__name__}: nested too deep, or inside itself"
        return EncodeError(problem or f"{record.python.__name__}: {type(error).__name__ if quiet else error}")

    return explain


def why_not_decoded(record: Record) -> Callable[[bytes, Exception], DecodeError]:
    """Explain to the decoder of `record` what it ran into, given the message."""
    quiet = has_personal(record.python)

    @cache
    def careful() -> tuple[Walker, Callable[[bytes], Any]]:
        schema = avro_schema(record.python)
        return Walker(schema), resolving_decoder(record.python, schema)  # which knows where it is

    def explain(message: bytes, error: Exception) -> DecodeError:
        if isinstance(error, DecodeError):
            return error
        if isinstance(error, RecursionError):
            return DecodeError("too_deep", f"{record.name} is nested too deep")
        walker, read_again = careful()
        try:
            walker.check(message, 5)
            read_again(message)
        except DecodeError as found:
            return found
        text = "" if quiet else str(error)
        return DecodeError("invalid", f"{record.name}: {text or type(error).__name__}")

    return explain
