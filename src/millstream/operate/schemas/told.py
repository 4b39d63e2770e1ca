"""Findings in the words of people who write classes; the registry's own words speak of readers and writers."""

from millstream.operate.schemas.finding import Direction, Misfit
from millstream.schemas.avro.nodes import Node
from millstream.schemas.avro.reading import read

_TYPES = {"LONG": "int", "INT": "int (32 bits)", "DOUBLE": "float", "STRING": "str", "BOOLEAN": "bool", "NULL": "None"}
_TYPES |= {"string": "str", "uuid": "UUID", "timestamp-micros": "datetime", "time-micros": "time"}
_TYPES |= {"microseconds": "timedelta"}


def problem_of(misfit: Misfit, direction: Direction, field: str) -> str:
    """One sentence on a misfit. `field` may be empty: then it is about the class itself."""
    what = field or "the class"
    reader, writer = ("new code", "old records") if direction == "backward" else ("running code", "new records")
    match misfit.kind:
        case "READER_FIELD_MISSING_DEFAULT_VALUE" if direction == "backward":
            return f"{what} is new and has no default, and old records do not have it"
        case "READER_FIELD_MISSING_DEFAULT_VALUE":
            return f"{what} is gone, and running code needs it: it has no default there"
        case "TYPE_MISMATCH" | "LOGICAL_TYPE_CHANGED" | "DECIMAL_SCALE_CHANGED" | "DECIMAL_PRECISION_REDUCED":
            read_as, written = _two_types(misfit.detail)
            return f"{reader} takes {what} for {read_as}, and {writer} have {written}"
        case "NAME_MISMATCH":
            other = misfit.detail.removeprefix("expected: ")
            return f"the type of {what} has another name; {writer} call it {other}"
        case "MISSING_ENUM_SYMBOLS":
            return f"{reader} does not know {misfit.detail} of {what}, and {writer} may have it"
        case "MISSING_UNION_BRANCH":
            branch = _python(misfit.detail.rpartition(": ")[2])
            return f"{what} cannot be {branch} in {reader}, and {writer} may have it"
        case "FIXED_SIZE_MISMATCH":
            return f"{what} has another number of bytes than it had"
        case _ if field:
            return f"{field}: {misfit.said[:1].lower()}{misfit.said[1:]}"
        case _:
            return misfit.said


def written_field_like(pointer: str, reader: str, writer: str) -> str | None:
    """The one field of the writer's record that the reader has no more and that has the type of the field at
    `pointer`: it may have been renamed. Only for the record at the top."""
    steps = pointer.split("/")
    if len(steps) != 3:
        return None
    new, old = read(reader, as_new=False)[0], read(writer, as_new=False)[0]
    field = new.fields[int(steps[2])]
    names = {name for of in new.fields for name in (of.name, *of.aliases)}
    alike = [of.name for of in old.fields if of.name not in names and _alike(of.type, field.type)]
    return alike[0] if len(alike) == 1 else None


def _alike(one: Node, other: Node) -> bool:
    return (one.type, one.name, one.props) == (other.type, other.name, other.props)


def _two_types(detail: str) -> tuple[str, str]:
    first, _, second = detail.partition(" not compatible with writer type: ")
    return _python(first.removeprefix("reader type: ")), _python(second)


def _python(avro: str) -> str:
    return _TYPES.get(avro, avro.lower())
