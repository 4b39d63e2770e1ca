"""The extras of the package: what some commands need, and services do not."""

from importlib.util import find_spec
from typing import Literal

from millstream.errors import ConfigurationError

Extra = Literal["local", "postgresql"]

MODULES: dict[Extra, tuple[str, ...]] = {
    "local": ("cramjam", "crc32c", "h11", "kio"),
    "postgresql": ("psycopg",),
}
"""The modules that each extra brings, as `pyproject.toml` declares it."""


def require(extra: Extra, purpose: str) -> None:
    """Raise ConfigurationError when a module of `extra` is not installed.

    - `purpose`: what needs it, the first words of the message.

    >>> require("local", "`millstream up`")
    """
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"{purpose} needs what is not installed ({', '.join(missing)}): pip install 'millstream[{extra}]'"
        )
