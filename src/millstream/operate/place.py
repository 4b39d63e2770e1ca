"""The place of the system that commands work on: `[tool.millstream]` in pyproject.toml, here or further up."""

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.errors import ConfigurationError

if TYPE_CHECKING:
    from millstream.declare import System


def find_place(start: Path | None = None) -> str:
    """The `"module:attribute"` that the nearest pyproject.toml names. Raises `ConfigurationError` where none does."""
    named = project_table(start).get("system")
    if isinstance(named, str):
        return named
    folder = (start or Path.cwd()).resolve()
    raise ConfigurationError(
        f"No pyproject.toml from {folder} upwards names a system. Give --system module:attribute, or add there:\n\n"
        '[tool.millstream]\nsystem = "shop.system:system"'
    )


def project_table(start: Path | None = None) -> dict[str, Any]:
    """`[tool.millstream]` of the nearest pyproject.toml that names a system; empty where none does."""
    folder = (start or Path.cwd()).resolve()
    for file in (parent / "pyproject.toml" for parent in (folder, *folder.parents)):
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text()).get("tool", {}).get("millstream", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: {error}") from None
        if isinstance(table.get("system"), str):
            return table
    return {}


def load_system(place: str | None = None) -> "System":
    """The system at `place`, or at the one that pyproject.toml names.

    The current folder is on the path, as with `python -m`. Raises `ConfigurationError` or `DeclarationError`.
    """
    from millstream.declare import System, load

    place = place or find_place()
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return load(place, System)
