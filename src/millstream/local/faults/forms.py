"""What kio's classes say of their own fields: which are arrays, of what, and where an error code is."""

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from kio.index import load_payload_module
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.static.constants import EntityType


class Part(NamedTuple):
    """One field. `item` is what an array holds, None for what is no array; `type` the field's own, without None."""

    name: str
    type: Any
    item: Any
    has_default: bool
    optional: bool

    @property
    def nested(self) -> bool:
        return self.item is not None and is_dataclass(self.item)


@cache
def form(key: int, version: int, kind: Any) -> Any:
    """kio's class of a request or response."""
    title = "".join(part.title() for part in api_key_map[key].split("_"))
    suffix = "Request" if kind is EntityType.request else "Response"
    return getattr(load_payload_module(key, version, kind), f"{title}{suffix}")


@cache
def parts(entity: Any) -> tuple[Part, ...]:
    return tuple(
        Part(
            field.name,
            _plain(field.type),
            _item(field.type),
            field.default is not MISSING,
            type(None) in get_args(field.type),
        )
        for field in fields(entity)
    )


@cache
def holds_error(entity: Any) -> bool:
    return any(part.type is ErrorCode or (part.nested and holds_error(part.item)) for part in parts(entity))


def _plain(annotation: Any) -> Any:
    """`T` for `T | None`."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    return options[0] if options and get_origin(annotation) is not tuple else annotation


def _item(annotation: Any) -> Any:
    plain = _plain(annotation)
    return get_args(plain)[0] if get_origin(plain) is tuple else None
