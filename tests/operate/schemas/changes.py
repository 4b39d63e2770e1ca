"""Twenty changes of contracts that break somebody, and twenty that break nobody."""

import json
from typing import Any, NamedTuple


class Change(NamedTuple):
    """`old` and `new` are bodies of the class `Ordered`, or whole sources with such a class, or Avro schemas."""

    name: str
    old: Any
    new: Any
    level: str = "BACKWARD"
    field: str = ""
    rule: str = ""
    fix: str = ""
    format: str = "avro"


def source(body: str) -> str:
    """Whole source from a body."""
    if "class Ordered" in body:
        return body
    lines = ["class Ordered(Event, key='order_id'):", "    order_id: str"]
    return "\n".join([*lines, *(f"    {line.strip()}" for line in body.split(";") if line.strip())])


def record(*fields: Any, name: str = "Ordered", **more: Any) -> str:
    """An Avro record of `(name, type)` or `(name, type, default)` or whole fields."""
    made = [
        field if isinstance(field, dict) else dict(zip(("name", "type", "default"), field, strict=False))
        for field in fields
    ]
    return json.dumps({"type": "record", "name": name, "namespace": "shop", "fields": made, **more})


WITH_LINES = """
class Line(Value):
    product: str
    {}
class Ordered(Event, key='order_id'):
    order_id: str
    lines: tuple[Line, ...] = ()
"""
WITH_ENUM = """
class Size(StrEnum):
    {}
class Ordered(Event, key='order_id'):
    order_id: str
    size: Size
"""
TREE = """
class Part(Value):
    name: str
    {}
    parts: tuple['Part', ...] = ()
class Ordered(Event, key='order_id'):
    order_id: str
    whole: Part
"""
_MISSING = "READER_FIELD_MISSING_DEFAULT_VALUE"
_FIXED = {"type": "fixed", "name": "Hash", "size": 16}
_ENUM = {"type": "enum", "name": "Size", "symbols": ["S", "M"]}

BREAKING = [
    Change("new field without default", "", "note: str", field="note", rule=_MISSING, fix="give it a default"),
    Change("renamed field", "note: str", "remark: str", field="remark", rule=_MISSING, fix='Alias("note")'),
    Change(
        "two new fields, one without default",
        "",
        "note: str; channel: str = 'web'",
        field="note",
        rule=_MISSING,
        fix="`note: … | None = None`",
    ),
    Change(
        "new field of a line",
        WITH_LINES.format(""),
        WITH_LINES.format("quantity: int"),
        field="lines[].quantity",
        rule=_MISSING,
        fix="`quantity: … | None = None`",
    ),
    Change("int to str", "n: int", "n: str", field="n", rule="TYPE_MISMATCH", fix="add a new field instead"),
    Change("float to int", "n: float", "n: int", field="n", rule="TYPE_MISMATCH", fix="leave n as it was"),
    Change("str to bool", "paid: str", "paid: bool", field="paid", rule="TYPE_MISMATCH", fix="add a new field"),
    Change(
        "decimal to float",
        "total: Annotated[Decimal, Scale(18, 4)]",
        "total: float",
        field="total",
        rule="TYPE_MISMATCH",
        fix="leave total as it was",
    ),
    Change(
        "item of a list",
        "tags: list[str]",
        "tags: list[int]",
        field="tags[]",
        rule="TYPE_MISMATCH",
        fix="add a new field instead",
    ),
    Change(
        "value of a dict",
        "counts: dict[str, float]",
        "counts: dict[str, int]",
        field="counts{}",
        rule="TYPE_MISMATCH",
        fix="add a new field instead",
    ),
    Change("list to one", "tags: list[str]", "tags: str", field="tags", rule="TYPE_MISMATCH", fix="leave tags"),
    Change(
        "no longer optional",
        "note: str | None = None",
        "note: str = ''",
        field="note",
        rule="TYPE_MISMATCH",
        fix="leave note as it was",
    ),
    Change(
        "a type of a union goes",
        "n: int | str | None = None",
        "n: str | None = None",
        field="n",
        rule="MISSING_UNION_BRANCH",
        fix="keep the old type among those of n",
    ),
    Change(
        "symbol goes",
        WITH_ENUM.format("S = 'S'; M = 'M'; L = 'L'"),
        WITH_ENUM.format("S = 'S'; M = 'M'"),
        field="size",
        rule="MISSING_ENUM_SYMBOLS",
        fix="keep these symbols of size",
    ),
    Change(
        "literal goes",
        "kind: Literal['card', 'cash']",
        "kind: Literal['card']",
        field="kind",
        rule="MISSING_ENUM_SYMBOLS",
        fix="keep these symbols",
    ),
    Change(
        "class of a field renamed",
        TREE.format(""),
        TREE.format("").replace("Part", "Piece"),
        field="whole",
        rule="NAME_MISMATCH",
        fix="keep the old name",
    ),
    Change(
        "deep in a recursive class",
        TREE.format(""),
        TREE.format("weight: int"),
        field="whole.weight",
        rule=_MISSING,
        fix="give it a default",
    ),
    Change(
        "forward: a field goes",
        "note: str",
        "",
        level="FORWARD",
        field="note",
        rule=_MISSING,
        fix="Give it a default first",
    ),
    Change(
        "full: symbol comes",
        WITH_ENUM.format("S = 'S'"),
        WITH_ENUM.format("S = 'S'; M = 'M'"),
        level="FULL",
        field="size",
        rule="MISSING_ENUM_SYMBOLS",
        fix="add a new field instead",
    ),
    Change(
        "size of a fixed",
        record(("hash", _FIXED)),
        record(("hash", _FIXED | {"size": 20})),
        field="hash",
        rule="FIXED_SIZE_MISMATCH",
        fix="leave hash as it was",
    ),
    Change(
        "forward: wider number",
        record(("n", "int")),
        record(("n", "long")),
        level="FORWARD_TRANSITIVE",
        field="n",
        rule="TYPE_MISMATCH",
        fix="add a new field instead; code that is still running",
    ),
    Change(
        "protobuf: int to str",
        "n: int",
        "n: str",
        field="n",
        rule="FIELD_SCALAR_KIND_CHANGED",
        fix="add a new field instead, under a new number",
        format="protobuf",
    ),
    Change(
        "json schema: new field without default",
        "",
        "note: str",
        field="note",
        rule="REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL",
        fix="give note a default",
        format="json_schema",
    ),
    Change(
        "json schema: int to str",
        WITH_LINES.format("quantity: int"),
        WITH_LINES.format("quantity: str"),
        field="lines[].quantity",
        rule="TYPE_CHANGED",
        fix="add a new field instead",
        format="json_schema",
    ),
]

_MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
_MICROS = {"type": "long", "logicalType": "timestamp-micros"}
_LOGICAL = "LOGICAL_TYPE_CHANGED"

MEANING = [
    Change(
        "scale of a decimal",
        "total: Annotated[Decimal, Scale(18, 4)]",
        "total: Annotated[Decimal, Scale(18, 2)]",
        field="total",
        rule="DECIMAL_SCALE_CHANGED",
        fix="keep the scale of total",
    ),
    Change(
        "scale of a decimal in a line",
        WITH_LINES.format("price: Annotated[Decimal, Scale(18, 2)] | None = None"),
        WITH_LINES.format("price: Annotated[Decimal, Scale(18, 4)] | None = None"),
        field="lines[].price",
        rule="DECIMAL_SCALE_CHANGED",
        fix="keep the scale of price",
    ),
    Change(
        "fewer digits",
        "total: Annotated[Decimal, Scale(18, 4)]",
        "total: Annotated[Decimal, Scale(9, 4)]",
        field="total",
        rule="DECIMAL_PRECISION_REDUCED",
        fix="keep as many digits in total",
    ),
    Change(
        "forward: more digits",
        "total: Annotated[Decimal, Scale(9, 4)]",
        "total: Annotated[Decimal, Scale(18, 4)]",
        level="FORWARD",
        field="total",
        rule="DECIMAL_PRECISION_REDUCED",
        fix="has no room for so many digits",
    ),
    Change(
        "decimal to bytes", "n: Annotated[Decimal, Scale(9, 2)]", "n: bytes", field="n", rule=_LOGICAL, fix="leave n"
    ),
    Change("str to decimal", "n: str", "n: Annotated[Decimal, Scale(9, 2)]", field="n", rule=_LOGICAL, fix="leave n"),
    Change("str to UUID", "id: str", "id: UUID", field="id", rule=_LOGICAL, fix="leave id as it was"),
    Change(
        "str to UUID in a dict", "a: dict[str, str]", "a: dict[str, UUID]", field="a{}", rule=_LOGICAL, fix="leave a"
    ),
    Change(
        "forward: UUID to str",
        "id: UUID",
        "id: str",
        level="FORWARD",
        field="id",
        rule=_LOGICAL,
        fix="still running takes it for what it was",
    ),
    Change("int to datetime", "at: int", "at: datetime", field="at", rule=_LOGICAL, fix="leave at as it was"),
    Change("datetime to int", "at: datetime", "at: int", field="at", rule=_LOGICAL, fix="leave at as it was"),
    Change("date to datetime", "on: date", "on: datetime", field="on", rule=_LOGICAL, fix="leave on as it was"),
    Change("int to timedelta", "took: int", "took: timedelta", field="took", rule=_LOGICAL, fix="leave took as it was"),
    Change("time to datetime", "at: time", "at: datetime", field="at", rule=_LOGICAL, fix="leave at as it was"),
    Change(
        "millis to micros",
        record(("at", _MILLIS)),
        record(("at", _MICROS)),
        field="at",
        rule=_LOGICAL,
        fix="leave at as it was",
    ),
    Change(
        "micros to millis, perhaps",
        record(("at", ["null", _MICROS], None)),
        record(("at", ["null", _MILLIS], None)),
        level="FULL_TRANSITIVE",
        field="at",
        rule=_LOGICAL,
        fix="leave at as it was",
    ),
    Change(
        "deep in a recursive class",
        TREE.format("id: str | None = None"),
        TREE.format("id: UUID | None = None"),
        field="whole.id",
        rule=_LOGICAL,
        fix="leave id as it was",
    ),
]
"""What the rules of Avro, and so registries, let pass, while readers would take values for something else."""

SAFE = [
    Change("optional field", "", "note: str | None = None"),
    Change("field with a default", "", "channel: str = 'web'"),
    Change("field goes", "note: str", ""),
    Change("int to float", "n: int", "n: float"),
    Change("str to bytes", "n: str", "n: bytes"),
    Change("becomes optional", "note: str", "note: str | None = None"),
    Change("type of a union comes", "n: int | None = None", "n: int | str | None = None"),
    Change(
        "symbol comes",
        WITH_ENUM.format("S = 'S'"),
        WITH_ENUM.format("S = 'S'; M = 'M'"),
    ),
    Change("literal comes", "kind: Literal['card']", "kind: Literal['card', 'cash']"),
    Change("default of another value", "channel: str = 'web'", "channel: str = 'app'"),
    Change("default comes", "channel: str", "channel: str = 'web'"),
    Change("order of fields", "a: str; b: int", "b: int; a: str"),
    Change("documentation", "note: str", "note: Annotated[str, Doc('what the customer said')]"),
    Change("optional field of a line", WITH_LINES.format(""), WITH_LINES.format("quantity: int = 1")),
    Change("optional field in a recursive class", TREE.format(""), TREE.format("weight: int | None = None")),
    Change("UUID to str", "id: UUID", "id: str"),
    Change("UUID becomes one of two", "id: UUID | None", "id: UUID | int | None"),
    Change("more digits", "n: Annotated[Decimal, Scale(9, 2)]", "n: Annotated[Decimal, Scale(18, 2)]"),
    Change(
        "a logical type of somebody else", record(("n", "long")), record(("n", {"type": "long", "logicalType": "x"}))
    ),
    Change("datetime becomes optional", "at: datetime", "at: datetime | None"),
    Change("empty list", "", "tags: tuple[str, ...] = ()"),
    Change("forward: a field comes", "", "note: str", level="FORWARD"),
    Change("full: optional both ways", "a: str | None = None", "b: str | None = None", level="FULL_TRANSITIVE"),
    Change("none: anything", "n: int", "n: bool", level="NONE"),
    Change("renamed with an alias", "note: str", "remark: Annotated[str, Alias('note')]"),
    Change(
        "symbol goes with a default",
        record(("size", _ENUM)),
        record(("size", _ENUM | {"symbols": ["S"], "default": "S"})),
    ),
    Change("protobuf: a field comes", "", "note: str", format="protobuf"),
    Change("json schema: optional field", "", "note: str | None = None", format="json_schema"),
]
