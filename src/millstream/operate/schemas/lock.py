"""The lock file: all versions of all schemas of a system, and what identifies its parts, beside the code itself."""

import json
from pathlib import Path
from typing import Any

from msgspec import ValidationError

from millstream.errors import ConfigurationError
from millstream.operate.schemas.declared import Declared
from millstream.operate.schemas.history import DEFAULT_LEVEL, LEVELS, Version
from millstream.operate.schemas.identities import Identities, read_identities

LOCK_NAME = "schemas.lock.json"
_ABOUT = "Written by `millstream schemas lock`. Review its differences; edit only `compatibility`."


class Lock:
    """A lock file in memory. People read its differences, so it is sorted, and schemas are JSON where they can be.

    `compatibility` is the level for all; a subject may have its own. Raises `ConfigurationError` for a broken file.
    """

    def __init__(self, path: Path, content: dict[str, Any] | None = None) -> None:
        self.path = path
        self._content = content if content is not None else {"compatibility": DEFAULT_LEVEL, "subjects": {}}
        self._check()

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """The lock file at `path`."""
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}; `millstream schemas lock` writes it") from None
        except ValueError as error:
            raise ConfigurationError(f"{path} is no JSON: {error}. Was a merge left unfinished?") from None
        return cls(path, content)

    def versions(self, subject: str) -> list[Version]:
        entry = self._subjects.get(subject)
        if entry is None:
            return []
        return [Version(kept["version"], entry["format"], _text(kept["schema"])) for kept in entry["versions"]]

    def level(self, subject: str) -> str:
        return self._subjects.get(subject, {}).get("compatibility") or self._content["compatibility"]

    def subjects(self) -> list[str]:
        return sorted(self._subjects)

    def place(self, subject: str) -> tuple[str, str]:
        """The topic and the class of a subject."""
        entry = self._subjects[subject]
        return entry["topic"], entry["class"]

    @property
    def identities(self) -> Identities | None:
        """Keys, services, groups, handlers and stores as they were recorded; None in a file that has none yet."""
        content = self._content.get("identities")
        return None if content is None else read_identities(content)

    def set_identities(self, identities: Identities) -> None:
        """Takes these as recorded."""
        self._content["identities"] = identities.recorded()

    def set_level(self, level: str) -> None:
        """The level for all subjects that have none of their own."""
        self._content["compatibility"] = level
        self._check()

    def add(self, declared: Declared) -> None:
        """Takes a schema as the newest version of its subject."""
        entry = self._subjects.setdefault(declared.subject, {"topic": declared.topic, "class": declared.name})
        if entry.setdefault("format", declared.type) != declared.type:
            # Versions in another language cannot be compared with: the break was accepted, and history begins anew.
            entry |= {"format": declared.type, "versions": []}
        versions = entry.setdefault("versions", [])
        number = versions[-1]["version"] + 1 if versions else 1
        versions.append({"version": number, "schema": _readable(declared.text)})

    def forget(self, subject: str) -> None:
        """Drops a subject whose class is gone."""
        del self._subjects[subject]

    def text(self) -> str:
        """The file, the same for the same content."""
        subjects = {subject: self._subjects[subject] for subject in sorted(self._subjects)}
        content = {"about": _ABOUT, "compatibility": self._content["compatibility"]}
        if self.identities is not None:
            content["identities"] = self.identities.recorded()
        content["subjects"] = subjects
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def write(self) -> None:
        """Puts the file in its place at once, whole."""
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(self.text())
        beside.replace(self.path)

    @property
    def _subjects(self) -> dict[str, Any]:
        return self._content["subjects"]

    def _check(self) -> None:
        try:
            levels = [self._content["compatibility"], *(self.level(subject) for subject in self._subjects)]
            for subject in self._subjects:
                self.place(subject)
                self.versions(subject)
            _ = self.identities
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise ConfigurationError(
                f"{self.path} is no lock file of schemas ({type(error).__name__}: {error}); "
                "restore it from the repository's history, or delete it and run `millstream schemas lock`"
            ) from None
        for level in levels:
            if level not in LEVELS:
                raise ConfigurationError(f"{self.path}: {level!r} is no level; take one of {', '.join(LEVELS)}")

    def __repr__(self) -> str:
        return self.path.name


def _readable(text: str) -> Any:
    """JSON as JSON, anything else line by line: either way a change of one field is a change of a few lines."""
    try:
        return json.loads(text)
    except ValueError:
        return text.splitlines()


def _text(kept: Any) -> str:
    if isinstance(kept, list) and all(isinstance(line, str) for line in kept):
        return "\n".join(kept) + "\n"
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)
