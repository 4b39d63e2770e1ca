"""The rules for what stands in a schema as a plain value: limits, enums, annotations, the way of combining."""

from decimal import Decimal, InvalidOperation
from typing import Any

from millstream.schemas.json_schema.differences import Difference
from millstream.schemas.json_schema.keywords import SINGLE
from millstream.schemas.json_schema.nodes import Node, frozen

_NAMES = {
    "maxLength": "MAX_LENGTH",
    "minLength": "MIN_LENGTH",
    "pattern": "PATTERN",
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "exclusiveMaximum": "EXCLUSIVE_MAXIMUM",
    "exclusiveMinimum": "EXCLUSIVE_MINIMUM",
    "multipleOf": "MULTIPLE_OF",
    "maxItems": "MAX_ITEMS",
    "minItems": "MIN_ITEMS",
    "uniqueItems": "UNIQUE_ITEMS",
    "maxContains": "MAX_CONTAINS",
    "minContains": "MIN_CONTAINS",
    "maxProperties": "MAX_PROPERTIES",
    "minProperties": "MIN_PROPERTIES",
}


def annotations(writer: Node, reader: Node) -> list[Difference]:
    """Differences that never stand in the way of reading."""
    found: list[Difference] = []
    if writer.id != reader.id:
        found.append(Difference("ID_CHANGED"))
    if writer.title != reader.title:
        found.append(Difference("TITLE_CHANGED"))
    if writer.description != reader.description:
        found.append(Difference("DESCRIPTION_CHANGED"))
    if writer.default is not reader.default and frozen(writer.default) != frozen(reader.default):
        found.append(Difference("DEFAULT_CHANGED"))
    return found


def limits(writer: Node, reader: Node) -> list[Difference]:
    """The differences in keywords that hold one value, in the order in which Confluent's registry tells them."""
    found: list[Difference] = []
    for keyword in SINGLE[writer.kind]:
        old, new = writer.limits.get(keyword), reader.limits.get(keyword)
        if old != new:
            change = _change(keyword, old, new)
            found.append(Difference(f"{_NAMES[keyword]}_{change}", f"/{keyword}", _both(reader=new, writer=old)))
    if "integer" in writer.limits and "integer" not in reader.limits:
        found.append(Difference("TYPE_EXTENDED"))
    elif "integer" in reader.limits and "integer" not in writer.limits:
        found.append(Difference("TYPE_NARROWED", detail="reader: integer, writer: number"))
    return found


def enums(writer: Node, reader: Node) -> list[Difference]:
    if writer.values == reader.values:
        return []
    if writer.values < reader.values:
        return [Difference("ENUM_ARRAY_EXTENDED", "/enum")]
    return [Difference("ENUM_ARRAY_NARROWED" if reader.values < writer.values else "ENUM_ARRAY_CHANGED", "/enum")]


def constants(writer: Node, reader: Node) -> list[Difference]:
    return [] if writer.values == reader.values else [Difference("ENUM_ARRAY_CHANGED", "/const")]


def criteria(writer: Node, reader: Node) -> list[Difference]:
    """Compare how allOf, anyOf and oneOf follow each other, and whether there are more or fewer parts."""
    found: list[Difference] = []
    if writer.criterion != reader.criterion:
        detail = _both(reader=reader.criterion, writer=writer.criterion)
        if not _may_become(writer, reader):
            return [Difference("COMBINED_TYPE_CHANGED", detail=detail)]
        found.append(Difference("COMBINED_TYPE_EXTENDED", detail=detail))
    old, new = len(writer.distinct), len(reader.distinct)
    if old < new:
        found.append(Difference("PRODUCT_TYPE_EXTENDED" if reader.criterion == "allOf" else "SUM_TYPE_EXTENDED"))
    elif old > new:
        found.append(Difference("PRODUCT_TYPE_NARROWED" if writer.criterion == "allOf" else "SUM_TYPE_NARROWED"))
    return found


def _may_become(writer: Node, reader: Node) -> bool:
    one_written, one_read = len(writer.parts) == 1, len(reader.parts) == 1
    return (
        reader.criterion == "anyOf"
        or (one_written and one_read)
        or (one_written and reader.criterion == "oneOf")
        or (one_read and writer.criterion == "allOf")
    )


def _change(keyword: str, old: Any, new: Any) -> str:
    if old is None:
        return "ADDED"
    if new is None:
        return "REMOVED"
    if keyword == "pattern":
        return "CHANGED"
    if keyword == "multipleOf":
        if _divides(old, new):
            return "EXPANDED"
        return "REDUCED" if _divides(new, old) else "CHANGED"
    return "INCREASED" if old < new else "DECREASED"


def _divides(divisor: int | Decimal, number: int | Decimal) -> bool:
    try:
        return divisor != 0 and Decimal(number) % Decimal(divisor) == 0
    except InvalidOperation:
        # The numbers are so far apart that neither was meant as a multiple of the other.
        return False


def _both(*, reader: Any, writer: Any) -> str:
    return f"reader: {_said(reader)}, writer: {_said(writer)}"


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)[:200]
