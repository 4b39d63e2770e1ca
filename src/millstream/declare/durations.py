"""Durations that read as they are spoken: `days(7)`, `seconds(10)`."""

from datetime import timedelta


def days(count: float) -> timedelta:
    """`count` days."""
    return timedelta(days=count)


def hours(count: float) -> timedelta:
    """`count` hours."""
    return timedelta(hours=count)


def minutes(count: float) -> timedelta:
    """`count` minutes."""
    return timedelta(minutes=count)


def seconds(count: float) -> timedelta:
    """`count` seconds.

    >>> seconds(90) == minutes(1.5)
    True
    """
    return timedelta(seconds=count)
