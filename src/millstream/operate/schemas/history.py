"""The history of a subject: its versions, and the level that the next one is judged by."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import quote

from millstream.contracts import Registry
from millstream.errors import ConfigurationError, ContractError

LEVELS = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")
DEFAULT_LEVEL = "BACKWARD"


@dataclass(frozen=True, slots=True)
class Version:
    """A schema that a subject has had."""

    number: int
    type: str
    text: str


class History(Protocol):
    """A keeper of versions: a registry or a lock file."""

    def versions(self, subject: str) -> list[Version]:
        """All that the subject has, oldest first; none for a subject that is new."""
        ...

    def level(self, subject: str) -> str:
        """The compatibility level of the subject."""
        ...

    def subjects(self) -> list[str]:
        """The subjects that have versions."""
        ...


class RegistryHistory(Registry):
    """The versions that a schema registry has. Raises `RegistryUnavailable` where none answers."""

    def versions(self, subject: str) -> list[Version]:
        status, numbers = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions", kind=list)
        if status == HTTPStatus.NOT_FOUND:
            return []
        self._expect(status, numbers)
        return [self._version(subject, number) for number in sorted(numbers)]

    def level(self, subject: str) -> str:
        status, answer = self._ask("GET", f"/config/{quote(subject, safe='')}?defaultToGlobal=true")
        if status == HTTPStatus.NOT_FOUND:
            status, answer = self._ask("GET", "/config")
        self._expect(status, answer)
        level = str(answer.get("compatibilityLevel", DEFAULT_LEVEL))
        if level not in LEVELS:
            raise ConfigurationError(f"{self} has the level {level!r} for {subject}; known are {', '.join(LEVELS)}")
        return level

    def add(self, subject: str, schema_type: str, text: str) -> int:
        """The id of the schema, registered if it was not. Raises `ContractError` where the registry refuses it."""
        body = {"schema": text} if schema_type == "AVRO" else {"schema": text, "schemaType": schema_type}
        status, answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
        self._expect(status, answer)
        return answer["id"]

    def _version(self, subject: str, number: int) -> Version:
        status, answer = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{number}")
        self._expect(status, answer)
        text = answer["schema"]
        if answer.get("references"):
            # Whole: a comparison needs what it borrows, too.
            path = f"/schemas/ids/{answer['id']}?format=resolved&subject={quote(subject, safe='')}"
            status, resolved = self._ask("GET", path)
            self._expect(status, resolved)
            text = resolved["schema"]
        return Version(number, answer.get("schemaType", "AVRO"), text)

    def _expect(self, status: int, answer: Any) -> None:
        if status != HTTPStatus.OK:
            said = answer.get("message", answer) if isinstance(answer, dict) else answer
            raise ContractError(f"{self} answers {status}: {str(said)[:2000]}")
