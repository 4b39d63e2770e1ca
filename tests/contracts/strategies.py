"""Values of the sample classes, and classes that nobody thought of."""

import functools
import operator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from typing import Annotated, Any
from uuid import UUID

from hypothesis import strategies as st
from tests.contracts.samples import Card, Colour, Everything, Invoice, Line, Priority, Tree

from millstream.declare import Scale, Value
from millstream.declare.contract import ValueMeta

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
whole = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-2000, 2000)
money = st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-4))
moment = st.datetimes(timezones=st.just(UTC)) | st.datetimes(
    datetime(1978, 1, 1), datetime(2113, 1, 1), timezones=st.just(UTC)
)
duration = st.integers(-(1 << 63), (1 << 63) - 1).map(lambda n: timedelta(microseconds=n)) | st.timedeltas(
    timedelta(days=-2), timedelta(days=2)
)
real = st.floats(allow_nan=False, allow_infinity=False)
line = st.builds(Line, product=text, quantity=whole, price=money)
card = st.builds(Card, number=text)
invoice = st.builds(Invoice, due=st.dates(), lines=st.lists(line, max_size=3).map(tuple))
tree = st.recursive(
    st.builds(Tree, label=text),
    lambda inner: st.builds(Tree, label=text, left=st.none() | inner, right=st.none() | inner),
    max_leaves=8,
)
everything = st.builds(
    Everything,
    id=text,
    whole=whole,
    truth=st.booleans(),
    real=real,
    raw=st.binary(max_size=100),
    money=money,
    moment=moment,
    day=st.dates(),
    uuid=st.uuids(),
    colour=st.sampled_from(Colour),
    kind=st.sampled_from(["small", "large"]),
    maybe=st.none() | text,
    maybe_when=st.none() | moment,
    payment=card | invoice,
    maybe_payment=st.none() | card | invoice,
    scalar=st.none() | whole | text | st.booleans(),
    lines=st.lists(line, max_size=70).map(tuple) | st.lists(line, max_size=3).map(tuple),
    numbers=st.lists(whole, max_size=5),
    grid=st.lists(st.lists(money, max_size=3).map(tuple), max_size=3).map(tuple),
    labels=st.dictionaries(text, text, max_size=4),
    boxes=st.dictionaries(text, st.lists(line, max_size=2).map(tuple), max_size=2),
    tree=tree,
    clock=st.times(),
    took=duration,
    priority=st.sampled_from(Priority),
    grade=st.sampled_from([1, 2, -3]),
    place=st.tuples(text, whole, st.none() | line),
    seen=st.frozensets(text, max_size=3),
    codes=st.sets(whole, max_size=3),
    reached=st.none() | st.frozensets(st.tuples(st.sampled_from(Colour), st.dates()), max_size=3),
    region=st.none() | text,
)

_SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, text),
    (int, whole),
    (bool, st.booleans()),
    (float, real),
    (bytes, st.binary(max_size=10)),
    (datetime, moment),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, duration),
    (Priority, st.sampled_from(Priority)),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Annotated[Decimal, Scale(7, 2)], st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: Decimal(n).scaleb(-2))),
    (Line, line),
    (Tree, tree),
]
_numbers = count()

Typed = tuple[Any, st.SearchStrategy[Any]]


def _record(fields: list[tuple[Typed, list[Any]]]) -> Typed:
    """A class of these fields; where a value is given, it is the field's default."""
    number = next(_numbers)
    body: dict[str, Any] = {"__annotations__": {f"f{n}": typed[0] for n, (typed, _) in enumerate(fields)}}
    body |= {f"f{n}": given[0] for n, (_, given) in enumerate(fields) if given}
    cls: Any = ValueMeta(f"Made{number}", (Value,), body | {"__module__": __name__}, namespace=f"made.n{number}")
    return cls, st.builds(cls, **{f"f{n}": typed[1] for n, (typed, _) in enumerate(fields)})


def _field(typed: Typed) -> st.SearchStrategy[tuple[Typed, list[Any]]]:
    return st.tuples(st.just(typed), st.just([]) | typed[1].filter(_is_hashable).map(lambda value: [value]))


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _union(typed: list[Typed]) -> Typed:
    return functools.reduce(operator.or_, (t[0] for t in typed)), st.one_of(*(t[1] for t in typed))


# At most one of each row, since they are the same to Avro.
_BRANCHES: list[list[Typed]] = [
    [(str, text), (UUID, st.uuids())],
    [(int, whole), (datetime, moment), (timedelta, duration)],
    [(float, real)],
    [(bool, st.booleans())],
    [(date, st.dates())],
    [(bytes, st.binary(max_size=10))],
    [(Colour, st.sampled_from(Colour))],
    [(Priority, st.sampled_from(Priority))],
    [(Line, line)],
    [(Card, card)],
    [(tuple[Line, ...], st.lists(line, max_size=2).map(tuple))],
    [(dict[str, int], st.dictionaries(text, whole, max_size=2))],
]
_unions = st.lists(st.sampled_from(_BRANCHES), min_size=2, max_size=4, unique_by=id).flatmap(
    lambda rows: st.tuples(*(st.sampled_from(row) for row in rows)).map(lambda typed: _union(list(typed)))
)
_leaves = st.sampled_from(_SCALARS) | _unions


def _containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return (
        inner.map(lambda t: (tuple[t[0], ...], st.lists(t[1], max_size=3).map(tuple)))
        | inner.map(lambda t: (list[t[0]], st.lists(t[1], max_size=3)))
        | inner.map(lambda t: (dict[str, t[0]], st.dictionaries(text, t[1], max_size=3)))
        | inner.map(lambda t: (t[0] | None, st.none() | t[1]))
        | st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (tuple[*(t[0] for t in parts)], st.tuples(*(t[1] for t in parts)))
        )
        | st.sampled_from(_SCALARS).map(lambda t: (frozenset[t[0]], st.frozensets(t[1], max_size=3)))
        | st.lists(inner.flatmap(_field), min_size=1, max_size=4).map(_record)
    )


typed = st.recursive(_leaves, _containers, max_leaves=8)
classes = st.lists(typed.flatmap(_field), min_size=1, max_size=5).map(_record)
"""A class and a strategy for its values."""
