"""Options between their text and the messages that compiled files keep them in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf.nodes import Block, Option, Value, Word
from millstream.schemas.protobuf.writing import value_text

APART = ("default", "json_name")
"""Written like options, but kept by the field itself."""


def is_custom(option: Option) -> bool:
    return option.name.startswith("(")


def fill(
    options: Message, given: Sequence[Option], full_name: Callable[[str], str], pool: DescriptorPool | None
) -> None:
    """Set in `options` what is `given`; the custom ones only with a pool, which must know them.

    Raises `InvalidSchema`.
    """
    for option in given:
        if not is_custom(option) and option.name not in APART:
            _merge(options, _as_text(option.name, option.value), option.name, None)
    custom = [option for option in given if is_custom(option)]
    if custom and pool is not None:
        target = _as_known_to(pool, options)
        for option in custom:
            name, _, path = option.name[1:].partition(")")
            _merge(target, _as_text(f"[{full_name(name)}]{path}", option.value), option.name, pool)
        options.ParseFromString(target.SerializeToString(deterministic=True))


def described(options: Message, pool: Callable[[], DescriptorPool | None]) -> list[Option]:
    """The options that are set, as they would be written. Only custom ones need the pool."""
    if len(UnknownFieldSet(options)):
        known = pool()
        options = options if known is None else _as_known_to(known, options)
    found: list[Option] = []
    for field, value in options.ListFields():
        if field.name == "uninterpreted_option":
            continue
        name = f"({field.full_name})" if field.is_extension else field.name
        found += [Option(name, _value(field, item)) for item in (value if field.is_repeated else [value])]
    return found


def _as_known_to(pool: DescriptorPool, options: Message) -> Message:
    """The same options by the pool's own type, which has the extensions that its files declare."""
    try:
        made = GetMessageClass(pool.FindMessageTypeByName(options.DESCRIPTOR.full_name))()
        made.MergeFromString(options.SerializeToString(deterministic=True))
    except (KeyError, DecodeError):  # options of extensions that are not here stay as they are
        return options
    return made


def _as_text(path: str, value: Value) -> str:
    first, *more = _parts(path)
    text = value_text(value)
    for part in reversed(more):
        text = f"{{ {part}: {text} }}"
    return f"{first}: {text}"


def _parts(path: str) -> Iterator[str]:
    """An extension's name has dots of its own, but is in brackets."""
    if path.startswith("["):
        name, _, path = path.partition("]")
        yield f"{name}]"
        path = path.removeprefix(".")
    yield from path.split(".") if path else ()


def _merge(target: Message, text: str, name: str, pool: DescriptorPool | None) -> None:
    try:
        text_format.Merge(text, target, descriptor_pool=pool)
    except (text_format.ParseError, RecursionError) as error:
        raise InvalidSchema(f"option {name} cannot be set: {error}") from None


def _value(field: FieldDescriptor, value: Any) -> Value:
    if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
        return Block(tuple(_entries(value)))
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        # Protobuf gives a string that is not in UTF-8 as bytes.
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if field.type == FieldDescriptor.TYPE_BOOL:
        return Word("true" if value else "false")
    if field.type == FieldDescriptor.TYPE_ENUM:
        named = field.enum_type.values_by_number.get(value) if field.enum_type is not None else None
        return Word(str(value) if named is None else named.name)
    return Word(repr(value))


def _entries(message: Message) -> Iterator[tuple[str, Value]]:
    for field, value in message.ListFields():
        name = f"[{field.full_name}]" if field.is_extension else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key_kind, value_kind = (field.message_type.fields_by_number[number] for number in (1, 2))
            items: list[Value] = [
                Block((("key", _value(key_kind, key)), ("value", _value(value_kind, of))))
                for key, of in sorted(value.items(), key=lambda pair: pair[0])
            ]
        else:
            items = [_value(field, item) for item in (value if field.is_repeated else [value])]
        yield name, items if field.is_repeated else items[0]
