"""Timers: something to do later, kept with the state of the key it is about."""

from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from millstream.declare.contract import Contract

T = TypeVar("T", bound="Timer")


class Timer(Contract):
    """A message of a service to itself, for later. Its class has a key and no topic: it never leaves the service.

    A handler that asks for `Timers` sets it, and the service's `on` names the handler that it goes to:

    >>> class PaymentOverdue(Timer, key="order_id"):
    ...     order_id: str
    >>> PaymentOverdue(order_id="o-1")
    PaymentOverdue(order_id='o-1')
    """


class Timers(Protocol):
    """The timers of a handler's service. There is one of each class and key: setting it again moves it.

    They commit with whatever else the handler does, fire exactly once, and late rather than early.
    """

    def set(self, timer: Timer, /, *, after: timedelta | None = None, at: datetime | None = None) -> None:
        """Let `timer` come to its handler in `after`, or at the moment `at`; give one of the two.

        A handler may set timers of its own event's key only. Raises `ValueError`.
        """
        ...

    def cancel(self, timer: type[Timer], key: str, /) -> None:
        """Let it not come; no error where it is not set."""
        ...
