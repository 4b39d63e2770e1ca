"""Reads what was written with another schema, by Avro's resolution rules and by what values mean.

https://avro.apache.org/docs/1.12.0/specification/#schema-resolution. Beyond it: a field's own name stands before its
aliases; defaults are the class's own; numbers and texts that stand for another kind of value than the class has are
refused, by every reader and every registry called compatible though they are. Types are found by name, wherever a
schema declares them; those without a name of their own (a `Literal`, a tuple) by what they hold.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from millstream.contracts.meaning import Convert, conversion, told
from millstream.contracts.schema import Schema
from millstream.contracts.walk import Walker
from millstream.contracts.written import (
    PRIMITIVE,
    Deferred,
    Names,
    Node,
    Plain,
    Reader,
    array_reader,
    converted,
    enum_reader,
    fixed_reader,
    map_reader,
    told_of,
    union_reader,
)
from millstream.declare.contract import Value
from millstream.declare.personal import has_personal
from millstream.declare.reading import shape_of
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    part_names,
    python_class,
)
from millstream.errors import DecodeError


def resolving_decoder(contract: type[Value], writer: Schema) -> Callable[[bytes], Any]:
    """A function from messages written with the schema `writer` to the class as it is today.

    Raises `DecodeError` (`unreadable_schema`) here where the schema makes no sense; the function raises
    `DecodeError`, with `incompatible_schema` where no rule leads from one schema to the other.
    """

    def build(names: Names) -> Reader:
        return _Resolution(names, quiet=has_personal(contract)).record(
            names.node(writer, ""), shape_of(contract), contract.__name__
        )

    return _decoder(writer, build, contract.__name__, quiet=has_personal(contract))


def plain_decoder(writer: Schema) -> Callable[[bytes], Any]:
    """A function from messages written with the schema `writer` to dicts, as `resolving_decoder` without a class."""
    return _decoder(writer, lambda names: Plain(names, convert=True).reader(writer, "", ""), "the record", quiet=True)


def _decoder(writer: Schema, build: Callable[[Names], Reader], what: str, *, quiet: bool) -> Callable[[bytes], Any]:
    try:
        walker = Walker(writer)
        names = Names(writer)
        read = build(names)
    except DecodeError:
        raise
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError("unreadable_schema", f"{type(error).__name__}: {str(error)[:500]}") from error

    def decode(message: bytes) -> Any:
        if names.needs_bounds:
            walker.check(message, 5)
        try:
            value, end = read(message, 5)
        except RecursionError:
            raise DecodeError("too_deep", f"{what} is nested too deep") from None
        except Exception as error:
            walker.check(message, 5)  # says where bytes are missing or make no sense, whatever that led to
            if isinstance(error, DecodeError):
                raise
            detail = f"{what}: {told_of(error, quiet=quiet)}"
            raise DecodeError("invalid", detail) from (None if quiet else error)
        if end != len(message):
            walker.check(message, 5)
            raise DecodeError("trailing_bytes", f"{len(message) - end} bytes follow after the end of the record")
        return value

    return decode


class _Resolution:
    """From the types of one writer to the shapes of one class. What does not fit is refused when it is met."""

    def __init__(self, names: Names, *, quiet: bool) -> None:
        self._names = names
        self._quiet = quiet
        self._made = Deferred()
        self._typed = Plain(names, convert=True)
        self._skipped = Plain(names, convert=False)

    def record(self, node: Node, shape: Record, path: str) -> Reader:
        """Read a record, whatever it is called: the name has been looked at."""
        if node.kind != "record":
            return _refusing(f"{path}: {told(node.kind, node.meaning)} instead of a record")
        return self._made.reader((node.name, id(shape)), lambda: self._record(node, shape, shape.python.__name__))

    def _record(self, node: Node, shape: Record, path: str) -> Reader:
        written = dict(node.parts)
        sources: dict[str, Any] = {}
        for field in shape.fields:
            if (name := next((name for name in (field.name, *field.aliases) if name in written), None)) is not None:
                sources[name] = field
            elif field.default is REQUIRED:
                lacking = f"the writer's {node.name} has no such field, and the class has no default for it"
                return _refusing(f"{path}.{field.attribute}: {lacking}")
        steps: list[tuple[str | None, Reader]] = []
        for name, of in node.parts:
            if (field := sources.get(name)) is None:
                steps.append((None, self._skipped.reader(of, node.namespace, f"{path}.{name}")))
            else:
                read = self._reader(of, node.namespace, field.shape, f"{path}.{field.attribute}")
                steps.append((field.attribute, read))
        return _made_of(shape.python, steps, path, quiet=self._quiet)

    def _reader(self, schema: Any, namespace: str, shape: Shape | None, path: str) -> Reader:
        return self._of(self._names.node(schema, namespace), shape, path, frozenset())

    def _of(self, node: Node, shape: Shape | None, path: str, beside: frozenset[str]) -> Reader:
        """`beside`: the full names of the other branches of the writer's union."""
        if node.kind == "union":
            nodes = [self._names.node(branch, node.namespace) for branch in node.schema]
            full = frozenset(each.name for each in nodes if each.name)
            return union_reader([self._of(each, shape, path, full - {each.name}) for each in nodes])
        if isinstance(shape, OneOf):
            return self._branch(node, shape, path, beside)
        if (read := self._matching(node, shape, path)) is None or _rank(node, shape, beside) is None:
            wanted = "None" if shape is None else python_class(shape).__name__
            what = f"{told(node.kind, node.meaning)}{f' {node.name}' if node.name else ''}"
            return _refusing(f"{path}: {what} in the writer's schema, and {wanted} in the class")
        return read

    def _branch(self, node: Node, union: OneOf, path: str, beside: frozenset[str]) -> Reader:
        ranked = [(_rank(node, branch, beside), branch) for branch in union.branches]
        fitting = [(rank, branch) for rank, branch in ranked if rank is not None]
        what = f"{told(node.kind, node.meaning)}{f' {node.name}' if node.name else ''}"
        if not fitting:
            wanted = ", ".join(python_class(branch).__name__ for branch in union.branches)
            return _refusing(f"{path}: {what} in the writer's schema, and {wanted} in the class")
        best = min(rank for rank, _ in fitting)
        candidates = [branch for rank, branch in fitting if rank == best]
        if len(candidates) > 1 and best >= _SHORT_NAME:
            wanted = " and ".join(python_class(branch).__name__ for branch in candidates)
            return _refusing(f"{path}: {what} in the writer's schema might be {wanted}; give one of them an alias")
        read = self._matching(node, candidates[0], path)
        assert read is not None
        return read

    def _matching(self, node: Node, shape: Shape | None, path: str) -> Reader | None:
        """The reader where kinds agree, names aside."""
        match shape, node.kind:
            case None, "null":
                return PRIMITIVE["null"]
            case Record(), "record":
                return self.record(node, shape, path)
            case Fixed(), "record":
                return self._made.reader((node.name, id(shape)), lambda: self._fixed(node, shape, path))
            case Items(container, item), "array":
                items = self._reader(self._names.items(node), node.namespace, item, f"{path}[]")
                return array_reader(items, container)
            case Entries(value), "map":
                return map_reader(self._reader(node.schema.get("values"), node.namespace, value, f"{path}[]"))
            case Symbols(members=members), "enum":
                return _symbols(node.schema["symbols"], members, path, quiet=self._quiet)
            case Scalar() | Decimals() | Symbols(), _:
                convert = conversion(node.meaning, shape)
                return None if convert is None else self._scalar(node, convert, path)
            case _:
                return None

    def _scalar(self, node: Node, convert: Convert, path: str) -> Reader:
        if node.kind == "record":
            return converted(self._skipped.reader(node.name, "", path), convert, path, quiet=self._quiet)
        read = fixed_reader(node.schema["size"]) if node.kind == "fixed" else PRIMITIVE[node.kind]
        return converted(read, convert, path, quiet=self._quiet)

    def _fixed(self, node: Node, shape: Fixed, path: str) -> Reader:
        wanted = dict(zip(part_names(shape.parts), enumerate(shape.parts), strict=True))
        if missing := [name for name in wanted if name not in dict(node.parts)]:
            return _refusing(f"{path}: the writer's {node.name} has no {missing[0]}, which the class has")
        steps: list[tuple[str | None, Reader]] = []
        for name, of in node.parts:
            at, part = wanted.get(name, (0, None))
            if name in wanted:
                steps.append((name, self._reader(of, node.namespace, part, f"{path}[{at}]")))
            else:
                steps.append((None, self._skipped.reader(of, node.namespace, path)))
        names = list(wanted)
        return _made_of(lambda **found: tuple(found[name] for name in names), steps, path, quiet=self._quiet)


_OWN, _CONVERTED, _SHORT_NAME, _BY_CONTENT = 0, 1, 2, 3


def _rank(node: Node, shape: Shape | None, beside: frozenset[str]) -> int | None:
    """Rank how well a type of the writer fits: the lower, the better; None where it does not."""
    match shape, node.kind:
        case None, "null":
            return _OWN
        case ((Record(name=name) | Symbols(name=name) | Fixed(name=name)), "record" | "enum"):
            if isinstance(shape, Symbols) is not (node.kind == "enum"):
                return None
            former = shape.aliases if isinstance(shape, Record) else ()
            if node.name == name:
                return _OWN
            if node.name in former and name not in beside:
                return _OWN
            if any(short_name(node.name) == short_name(each) for each in (name, *former)):
                return None if name in beside else _SHORT_NAME
            return _BY_CONTENT if has_no_name(shape) and name not in beside else None
        case Items(), "array":
            return _OWN
        case Entries(), "map":
            return _OWN
        case ((Scalar() | Decimals() | Symbols()), _) if conversion(node.meaning, shape) is not None:
            return _OWN if isinstance(shape, Scalar) and _is_own(node, shape) else _CONVERTED
        case _:
            return None


def _is_own(node: Node, shape: Scalar) -> bool:
    return node.kind == shape.avro or (node.kind == "int" and shape.avro == "long")


def short_name(name: str) -> str:
    """Without the namespace."""
    return name.rpartition(".")[2]


def has_no_name(shape: Shape) -> bool:
    """Return whether the type goes by a name that we made up from the place where it stands first."""
    return isinstance(shape, Fixed) or (isinstance(shape, Symbols) and not issubclass(shape.python, Enum))


def _symbols(symbols: list[str], members: dict[str, Any], path: str, *, quiet: bool) -> Reader:
    read = enum_reader([members.get(symbol, REQUIRED) for symbol in symbols])
    named = enum_reader(symbols)

    def read_symbol(b: bytes, p: int) -> tuple[Any, int]:
        member, end = read(b, p)
        if member is REQUIRED:
            symbol = "a symbol that" if quiet else repr(named(b, p)[0][:80])
            raise DecodeError("invalid", f"{path}: {symbol} is none of {', '.join(members)[:500]}")
        return member, end

    return read_symbol


def _made_of(make: Callable[..., Any], steps: list[tuple[str | None, Reader]], path: str, *, quiet: bool) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        given: dict[str, Any] = {}
        for attribute, part in steps:
            if attribute is None:
                _, p = part(b, p)
            else:
                given[attribute], p = part(b, p)
        try:
            return make(**given), p
        except Exception as error:  # what a class's own __post_init__ raises
            text = "the class refuses it" if quiet else str(error)[:500]
            raise DecodeError("invalid", f"{path}: {type(error).__name__}: {text}") from (None if quiet else error)

    return read


def _refusing(detail: str) -> Reader:
    def refuse(b: bytes, p: int) -> tuple[Any, int]:
        raise DecodeError("incompatible_schema", detail)

    return refuse
