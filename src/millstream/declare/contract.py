"""Events, commands and the values inside them: frozen, typed, keyword-only."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, dataclass_transform, get_args, get_origin

import msgspec

from millstream.declare.personal import is_personal
from millstream.errors import DeclarationError

if TYPE_CHECKING:
    from msgspec import StructMeta
else:
    StructMeta = type(msgspec.Struct)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class ValueMeta(StructMeta):
    """Makes every subclass frozen and keyword-only without repeating it; takes `key=`, `namespace=`, `aliases=`."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        *,
        key: str | None = None,
        namespace: str | None = None,
        aliases: tuple[str, ...] = (),
        **options: Any,
    ) -> Any:
        options = {"frozen": True, "kw_only": True} | options
        cls: Any = super().__new__(mcls, name, bases, body, **options)
        if key is not None:
            cls.__key_field__ = key
        if namespace is not None:
            cls.__namespace__ = namespace
        cls.__aliases__ = tuple(aliases)
        cls.__upcasters__ = ()
        cls.__home__ = None
        return cls

    def __init__(
        cls,  # noqa: N805 of a metaclass
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        *,
        key: str | None = None,
        namespace: str | None = None,
        aliases: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(name, bases, body)


# Again, for mypy, which finds the one of Struct before that of the metaclass.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, metaclass=ValueMeta):
    """A frozen record: a part of an event, or what a store keeps.

    - `key=`: the field that is the record's key; for events and commands.
    - `namespace=`: stands before the name in schemas; by default the top-level package. Subclasses inherit both.
    - `aliases=`: names that the class had before, with their namespace where that was another.

    >>> class OrderLine(Value):
    ...     product: str
    ...     quantity: int
    >>> OrderLine(product="22465", quantity=12)
    OrderLine(product='22465', quantity=12)
    """

    __key_field__: ClassVar[str | None] = None
    __namespace__: ClassVar[str | None] = None
    __aliases__: ClassVar[tuple[str, ...]] = ()
    __upcasters__: ClassVar[tuple[Any, ...]] = ()
    __home__: ClassVar[Any] = None  # the Topic; msgspec evaluates annotations, and topics import this module
    __deletes__: ClassVar[Any] = None  # of a `Deleted` class, the class that it is the deletion of


class Contract(Value):
    """A message that travels on topics: an `Event` or a `Command`. Subclass those, not this."""


class Event(Contract):
    """An immutable fact, named in the past tense.

    `key=` names the field that is the record's key: the business id. Subclasses inherit it.

    >>> class OrderCreated(Event, key="order_id"):
    ...     order_id: str
    >>> key_of(OrderCreated(order_id="o-1"))
    'o-1'
    """


class Command(Contract):
    """A request to do something, named in the imperative. It may be refused.

    >>> class CancelOrder(Command, key="order_id"):
    ...     order_id: str
    ...     reason: str
    >>> CancelOrder(order_id="o-1", reason="changed my mind").reason
    'changed my mind'
    """


def full_name(contract: type[Value]) -> str:
    """The name in schemas and headers: the namespace (by default the top-level package) and the class.

    >>> class Shipped(Event, key="order_id", namespace="orders"):
    ...     order_id: str
    >>> full_name(Shipped)
    'orders.Shipped'
    """
    if contract.__deletes__ is not None:
        return f"{full_name(contract.__deletes__)}.Deleted"
    namespace = contract.__namespace__ or contract.__module__.partition(".")[0].strip("_")
    return f"{namespace}.{contract.__name__}"


def former_names(contract: type[Value]) -> list[str]:
    """The full names that a class had before, as its `aliases=` say.

    >>> class Dispatched(Event, key="order_id", namespace="orders", aliases=("Shipped", "shop.Shipped")):
    ...     order_id: str
    >>> former_names(Dispatched)
    ['orders.Shipped', 'shop.Shipped']
    """
    namespace = full_name(contract).rpartition(".")[0]
    return [alias if "." in alias else f"{namespace}.{alias}" for alias in contract.__aliases__]


def declared_fields(contract: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a class. Raises `DeclarationError` for an annotation that names what is not defined yet."""
    try:
        return msgspec.structs.fields(contract)
    except NameError as error:
        annotations = (
            (of, name, said) for of in contract.__mro__ for name, said in vars(of).get("__annotations__", {}).items()
        )
        where = next((f"{of.__name__}.{name}" for of, name, said in annotations if str(error.name) in repr(said)), None)
        raise DeclarationError(
            f"{where or contract.__name__}: {error}. Declare or import that class, and not under TYPE_CHECKING alone, "
            "above the first topic or store of this one; in a function, quotes can name classes of the module only"
        ) from None


@cache
def key_field(contract: type[Contract]) -> str:
    """The field that is the record's key.

    Raises `DeclarationError` where the class names none, or one that it does not have, that is no `str`, or that is
    `Personal`.
    """
    name = contract.__key_field__
    if name is None:
        raise DeclarationError(
            f"{contract.__name__} has no key: name the business id, "
            f'as in class {contract.__name__}(Event, key="order_id")'
        )
    fields = {field.name: _bare(field.type) for field in declared_fields(contract)}
    if name not in fields:
        raise DeclarationError(f"{contract.__name__} names {name!r} as its key, but has no such field")
    if any(is_personal(field.type) for field in msgspec.structs.fields(contract) if field.name == name):
        raise DeclarationError(
            f"{contract.__name__}.{name} is the key and cannot be Personal: keys are shown everywhere and kept for "
            "ever. Make the key an id that says nothing about a person"
        )
    if fields[name] is not str:
        raise DeclarationError(f"{contract.__name__}.{name} is the key and must be a str, not {fields[name]}")
    return name


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def key_of(record: Contract) -> str:
    """The business id of one event or command."""
    return getattr(record, key_field(type(record)))
