"""Importing a library without the optional parts that it would pull in."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Lets `modules` seem not to be installed to whatever is imported here; those in use already stay.

    >>> with without("this"):
    ...     import this
    Traceback (most recent call last):
    ModuleNotFoundError: import of this halted; None in sys.modules
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None is how Python says "there is none"
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
