"""Remedies for each kind of breaking change."""

from millstream.operate.schemas.finding import Direction

_REMEDIES: dict[tuple[str, Direction], str] = {
    ("READER_FIELD_MISSING_DEFAULT_VALUE", "backward"): "give it a default, as in `{field}: … | None = None`",
    ("READER_FIELD_MISSING_DEFAULT_VALUE", "forward"): "keep {field}: code that is still running has no default for "
    "it. Give it a default first; a later version may drop it",
    ("TYPE_MISMATCH", "backward"): "leave {field} as it was and add a new field instead, with a default",
    ("TYPE_MISMATCH", "forward"): "leave {field} as it was and add a new field instead; code that is still running "
    "cannot read the new type",
    ("NAME_MISMATCH", "backward"): "keep the old name, or name it as an alias of the new class",
    ("NAME_MISMATCH", "forward"): "keep the old name: code that is still running knows no other",
    ("MISSING_ENUM_SYMBOLS", "backward"): "keep these symbols of {field}, for old records have them; stop writing them "
    "instead",
    ("MISSING_ENUM_SYMBOLS", "forward"): "leave {field} as it was and add a new field instead, with a default; code "
    "that is still running does not know the symbol",
    ("MISSING_UNION_BRANCH", "backward"): "keep the old type among those of {field}, as in `old | new`; old records "
    "have it",
    ("MISSING_UNION_BRANCH", "forward"): "leave {field} as it was and add a new field instead, with a default; code "
    "that is still running does not know the new type",
    ("LOGICAL_TYPE_CHANGED", "backward"): "leave {field} as it was and add a new field instead, with a default",
    ("LOGICAL_TYPE_CHANGED", "forward"): "leave {field} as it was and add a new field instead; code that is still "
    "running takes it for what it was",
    ("DECIMAL_SCALE_CHANGED", "backward"): "keep the scale of {field} and add a new field instead, with a default",
    ("DECIMAL_SCALE_CHANGED", "forward"): "keep the scale of {field} and add a new field instead; code that is still "
    "running puts the point where it was",
    ("DECIMAL_PRECISION_REDUCED", "backward"): "keep as many digits in {field}, for old records may have them",
    ("DECIMAL_PRECISION_REDUCED", "forward"): "leave {field} as it was and add a new field instead; code that is "
    "still running has no room for so many digits",
    ("FIXED_SIZE_MISMATCH", "backward"): "leave {field} as it was and add a new field instead, with a default",
    ("FIXED_SIZE_MISMATCH", "forward"): "leave {field} as it was and add a new field instead, with a default",
}

_BY_WORD = (
    ("REQUIRED_FIELD_REMOVED", "keep {field}: code that reads it demands it"),
    ("REQUIRED", "give {field} a default, so that it may be missing in old records"),
    ("PROPERTY_REMOVED", "keep {field}, with a default; stop using it instead"),
    ("PROPERTY", "close the old schema first, or call {field} by a name that nobody can have used yet"),
    ("ADDITIONAL", "keep {field} as open as it was"),
    ("ENUM", "keep the old symbols of {field}; add new ones beside them"),
    ("ONEOF_FIELD_REMOVED", "keep {field} in its oneof; stop writing it instead"),
    ("ONEOF", "leave {field} where it was, in or out of its oneof, and add a new field instead"),
    ("REMOVED", "keep {field}; stop writing it instead"),
    ("FIELD", "leave {field} as it was and add a new field instead, under a new number"),
    ("TYPE", "leave {field} as it was and add a new field instead, with a default"),
    ("PACKAGE", "keep the package: give the class the namespace that it had"),
)
"""For the kinds of JSON Schema and Protobuf, which are many: what their names have in common."""

DIFFERENT_TYPE = "keep the topic's format; to change it, declare a new topic and move its readers there"
NOT_COMPARABLE = "make the schema smaller, or split the class: nobody could judge this one"
UNREADABLE = "the version that is kept is broken: delete it from the registry, or restore the lock file"
CLASS_GONE = (
    "keep the class as long as its topic has such records, or they become dead letters; if none are left, accept it: "
    "`millstream schemas lock --accept-breaking`"
)


def remedy_for(kind: str, direction: Direction, field: str) -> str:
    """Return the remedy for a misfit of this kind.

    >>> remedy_for("TYPE_MISMATCH", "backward", "total")
    'leave total as it was and add a new field instead, with a default'
    """
    remedy = _REMEDIES.get((kind, direction)) or next(
        (said for word, said in _BY_WORD if word in kind),
        "leave {field} as it was, and add a new field or class instead",
    )
    return remedy.replace("{field}", field.rpartition(".")[2] or "it")


def renamed(old: str, new: str) -> str:
    """For a new field without a default where one of the same type has gone."""
    return (
        f"if it is {old} under a new name, keep the old name as an alias: "
        f'`{new}: Annotated[…, Alias("{old}")]`; if it is new, give it a default'
    )
