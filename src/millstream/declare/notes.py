"""Notes of a field beside its type: how it was called, what it means, that it goes away, its number."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that the field had before: what was written under it is read into this field.

    >>> from typing import Annotated
    >>> CustomerId = Annotated[str, Alias("customer"), Alias("client_id")]
    """

    name: str


@dataclass(frozen=True, slots=True)
class Doc:
    """The meaning of the field, for readers of its schema.

    >>> from typing import Annotated
    >>> Weight = Annotated[int, Doc("in grams, with the packaging")]
    """

    text: str


@dataclass(frozen=True, slots=True)
class Deprecated:
    """The field is still written and read, and new code does without it.

    >>> from typing import Annotated
    >>> Region = Annotated[str | None, Deprecated("country says it better")]
    """

    why: str


@dataclass(frozen=True, slots=True)
class Number:
    """The field's number in Protobuf. Fields without one go on counting from the field before, the first from 1.

    >>> from typing import Annotated
    >>> Total = Annotated[str, Number(7)]
    """

    number: int
