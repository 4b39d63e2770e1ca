"""A system: services by name, so that a process imports only its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from millstream.declare.checks import check_collisions, check_once
from millstream.declare.owning import check_owned
from millstream.declare.service import Service
from millstream.errors import DeclarationError, did_you_mean
from millstream.user_code import place_in_user_code


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A process that stands in for the world outside when the system runs on one machine.

    - `name`, and `main`: `"module:function"` of a function `(Settings) -> None` that runs until it is told to stop.
    - `optional`: started only where `millstream up --with NAME` asks for it.
    - `public`: the one address that users open.
    """

    name: str
    main: str
    optional: bool = False
    public: bool = False


class System:
    """The services of one system and what surrounds them on a laptop.

    - `services`: `"module:attribute"` of each; the attribute, with `-` for `_`, is the service's name.
    - `sandbox`: processes of the outside world, for `millstream up`.
    - `simulation`: `"module:function"` of what `millstream simulate` runs for each seed, `(World) -> list[str]`:
      what is wrong in the end.
    - `invariants`: `"module:attribute"` of the tuple that `millstream verify` holds the log to.

    >>> System("orders", services=["orders.order:order", "orders.read_model:read_model"]).names
    ('order', 'read-model')
    """

    def __init__(
        self,
        name: str,
        services: Sequence[str],
        sandbox: Sequence[Sandbox] = (),
        *,
        simulation: str | None = None,
        invariants: str | None = None,
    ) -> None:
        self.name = name
        self.simulation = simulation
        self.invariants = invariants
        self._places = {_name_in(place): place for place in services}
        self.sandbox = {process.name: process for process in sandbox}
        if len(self._places) != len(services):
            raise DeclarationError(f"System {name!r} names a service twice: {', '.join(services)}")
        if both := self._places.keys() & self.sandbox.keys():
            raise DeclarationError(f"System {name!r}: {both.pop()} is both a service and a sandbox process")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the services, in the order of their declaration."""
        return tuple(self._places)

    def service(self, name: str) -> Service:
        """Imports one service, and nothing of the others. Raises `DeclarationError` where there is none."""
        if name not in self._places:
            meant = did_you_mean(name, self.names)
            raise DeclarationError(f"{self.name} has no service {name!r}{meant}; it has {', '.join(self.names)}")
        service = load(self._places[name], Service)
        if service.name != name:
            raise DeclarationError(f"{self._places[name]} is named {service.name!r}; it must be {name!r}")
        service.check()
        return service

    def services(self) -> tuple[Service, ...]:
        """Imports them all: for tools that look at the whole.

        Raises `DeclarationError` for what no service alone shows: one publishes what a handler of another owns, two
        declare one topic or share a consumer group, or the names of two topics collide.
        """
        services = tuple(self.service(name) for name in self.names)
        said = {place: contracts for service in services for place, contracts in service.said().items()}
        owned = {contract: place for service in services for contract, place in service.owned().items()}
        check_owned(said, owned)
        self._check_names(services)
        return services

    def _check_names(self, services: Sequence[Service]) -> None:
        groups: dict[str, Service] = {}
        for service in services:
            for kind in service.kinds():
                group = service.group(kind)
                if (other := groups.setdefault(group, service)) is not service:
                    raise DeclarationError(
                        f"{other.name} and {service.name} are both in group {group!r}: each would get a part of the "
                        "other's partitions. Give one of them another group="
                    )
        names = [named for service in services for named in service.topic_names()]
        check_once(names)
        check_collisions((name, what) for name, _, what in names)

    def main(self, name: str) -> Callable[..., Any]:
        """Imports the function of one sandbox process."""
        return load(self.sandbox[name].main, object)  # type: ignore[return-value] # any callable


BROKEN_CODE = (SyntaxError, ImportError, NameError, AttributeError, TypeError, LookupError, ValueError, AssertionError)
"""The errors of an import that will come again, until a person mends the code."""


def load(place: str, kind: type[Any]) -> Any:
    """The object at `"module:attribute"`.

    Raises `DeclarationError` where it is not there, is of another class, or where its module cannot be imported because
    of its code.
    """
    module_name, separator, attribute = place.partition(":")
    if not separator:
        raise DeclarationError(f"{place!r} is no place: write it as module:attribute")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise DeclarationError(_broken(place, error)) from error
        raise DeclarationError(f"{place!r}: {error}; is the folder that holds it on the path?") from error
    except BROKEN_CODE as error:
        raise DeclarationError(_broken(place, error)) from error
    found = getattr(module, attribute, None)
    if found is None or not isinstance(found, kind):
        raise DeclarationError(f"{module_name} has no {kind.__name__} named {attribute!r}")
    return found


def _broken(place: str, error: Exception) -> str:
    """The error that broke off an import, and the line of the user's code where it did."""
    what = error.msg if isinstance(error, SyntaxError) else error
    told = f"{place!r} cannot be imported: {type(error).__name__}: {what}"
    at = place_in_user_code(error)
    if at is None:
        return told
    code = f"\n    {at.line}" if at.line else ""
    return f"{told}\n  {at.filename}:{at.lineno}{code}"


def _name_in(place: str) -> str:
    return place.rpartition(":")[2].replace("_", "-")
