"""The client of a Confluent-compatible schema registry: what a service asks, bounded in time and size."""

import base64
import random
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from millstream.contracts.meeting import Written
from millstream.contracts.schema import Schema
from millstream.declare.topic import Topic
from millstream.errors import ConfigurationError, ContractError, DecodeError, IncompatibleSchema, RegistryUnavailable
from millstream.timeouts import REGISTRY_PAUSES, REGISTRY_REQUEST_TIMEOUT, REGISTRY_TIMEOUT

NO_SUCH_SCHEMA = 40403
"""The registry's error code; any other 404 says nothing about a schema."""
MAX_BYTES = 8 << 20
"""An answer longer than this is nonsense."""

_MAX_IMPORTS = 200
"""Files of one Protobuf schema."""

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Registry:
    """Registers schemas and looks them up; remembers both for ever, since ids never change.

    - `url`: `http(s)://[user:password@]host:port[/path]`, or several separated by commas.
    - `request_timeout`: seconds for one request.
    - `timeout`: seconds for all attempts of one call; then `RegistryUnavailable`.

    >>> registry = Registry("http://127.0.0.1:8081")
    """

    def __init__(
        self, url: str, *, request_timeout: float = REGISTRY_REQUEST_TIMEOUT, timeout: float = REGISTRY_TIMEOUT
    ) -> None:
        self._hosts = [_Host(one.strip()) for one in url.split(",")]
        self._request_timeout = request_timeout
        self.timeout = timeout
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, Written] = {}

    def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        """The id of `schema` (its text) under `subject`, registered if it was not.

        `kind` is the language: `AVRO`, `PROTOBUF` or `JSON`. Raises `IncompatibleSchema` where the subject's
        compatibility level forbids it, `RegistryUnavailable`.
        """
        if (known := self._ids.get((subject, schema))) is not None:
            return known
        path = f"/subjects/{quote(subject, safe='')}/versions"
        asked = {"schema": schema} if kind == "AVRO" else {"schema": schema, "schemaType": kind}
        status, answer = self._ask("POST", path, asked)
        if status == HTTPStatus.CONFLICT:
            raise IncompatibleSchema(
                f"the registry refuses the schema of {subject}: {_message(answer)}; "
                "give new fields a default, or put the new form in a class of its own"
            )
        if status != HTTPStatus.OK:
            raise ContractError(f"the registry answers {status} to the schema of {subject}: {_message(answer)}")
        schema_id = answer.get("id")
        if type(schema_id) is not int:
            raise RegistryUnavailable(f"{self} answers nonsense to a registration: {str(answer)[:200]}")
        self._ids[subject, schema] = schema_id
        return schema_id

    def schema(self, schema_id: int) -> Schema | None:
        """The Avro schema with this id, or None where the registry has none.

        Raises `DecodeError` (`unreadable_schema`) for one that is not Avro, `RegistryUnavailable`.
        """
        written = self.written(schema_id)
        if written is not None and written.kind != "AVRO":
            raise DecodeError("unreadable_schema", f"schema {schema_id} is {written.kind}; expected Avro")
        return written.schema if written else None

    def written(self, schema_id: int) -> Written | None:
        """The schema with this id in whatever language, or None where the registry has none.

        Raises `DecodeError` (`unreadable_schema`) for one that makes no sense, `RegistryUnavailable`.
        """
        if (known := self._schemas.get(schema_id)) is not None:
            return known
        if schema_id < 0:
            return None
        status, answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        if status == HTTPStatus.NOT_FOUND and answer.get("error_code") == NO_SUCH_SCHEMA:
            return None
        text = answer.get("schema")
        if status != HTTPStatus.OK or not isinstance(text, str):
            raise RegistryUnavailable(f"{self} answers {status} to schema {schema_id}: {_message(answer)}")
        kind = str(answer.get("schemaType", "AVRO"))
        if kind == "AVRO" and answer.get("references"):
            raise DecodeError("unreadable_schema", f"schema {schema_id} has references; expected plain Avro")
        if kind == "PROTOBUF":
            imports: dict[str, str] = {}
            self._collect(answer.get("references"), imports)
            written = Written(kind, text, imports)
        else:
            written = Written(kind, _parsed(text, schema_id))
        self._schemas[schema_id] = written
        return written

    def _collect(self, references: Any, imports: dict[str, str]) -> None:
        """Fetches the texts of files that a `.proto` file imports, and of those that they import."""
        for reference in references if isinstance(references, list) else ():
            if not isinstance(reference, dict) or (name := str(reference.get("name"))) in imports:
                continue
            if len(imports) >= _MAX_IMPORTS:
                raise DecodeError("unreadable_schema", f"it imports more than {_MAX_IMPORTS} files")
            subject, version = quote(str(reference.get("subject")), safe=""), reference.get("version")
            status, answer = self._ask("GET", f"/subjects/{subject}/versions/{version}?deleted=true")
            text = answer.get("schema")
            if status == HTTPStatus.NOT_FOUND:
                continue  # the field that needs it is refused with its name
            if status != HTTPStatus.OK or not isinstance(text, str):
                raise RegistryUnavailable(f"{self} answers {status} to {subject}: {_message(answer)}")
            imports[name] = text
            self._collect(answer.get("references"), imports)

    def subjects(self) -> list[str]:
        """All subjects. Raises `RegistryUnavailable`."""
        status, answer = self._ask("GET", "/subjects", kind=list)
        if status != HTTPStatus.OK:
            raise RegistryUnavailable(f"{self} answers {status}: {str(answer)[:200]}")
        return [str(subject) for subject in answer]

    def _ask(self, method: str, path: str, body: Any = None, kind: type = dict) -> tuple[int, Any]:
        deadline = time.monotonic() + self.timeout
        pause = REGISTRY_PAUSES.first
        problem = ""
        while True:
            for host in self._hosts:
                try:
                    status, answer = host.ask(
                        method, path, body, min(time.monotonic() + self._request_timeout, deadline)
                    )
                except _Unanswered as error:
                    # Cut short by our own time-out it says less than what was heard before.
                    if not problem or time.monotonic() < deadline:
                        problem = str(error)
                    continue
                if status >= 500 or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT):
                    problem = f"it answers {status}: {_message(answer)}"
                elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                    raise ConfigurationError(
                        f"the schema registry at {host} answers {status}: put user:password@ into its url"
                    )
                elif status == HTTPStatus.NOT_FOUND and not _says_registry(answer):
                    # A gateway's own, or another server's: it does not know what the registry has.
                    problem = f"it answers 404, and no registry's error_code: {_message(answer)}; check the url"
                elif not isinstance(answer, kind if status == HTTPStatus.OK else dict):
                    problem = f"it answers nonsense: {str(answer)[:200]}"
                else:
                    return status, answer
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 only spreads the load
            if time.monotonic() + wait >= deadline:
                raise RegistryUnavailable(f"no answer from {self} within {self.timeout:g} s: {problem}")
            time.sleep(wait)  # before the registry is asked again
            pause = REGISTRY_PAUSES.after(pause)

    def __repr__(self) -> str:
        return f"the schema registry at {', '.join(map(str, self._hosts))}"


class _Unanswered(Exception):
    """One request came to nothing."""


class _Host:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no registry url; write http://host:8081")
        self._secure = parts.scheme == "https"
        self._name = parts.hostname
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._headers = {"Accept": f"{_CONTENT_TYPE}, application/json", "Content-Type": _CONTENT_TYPE}
        if parts.username:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"

    def ask(self, method: str, path: str, body: Any, deadline: float) -> tuple[int, Any]:
        """Status and parsed answer. Raises `_Unanswered`."""
        # A connection of its own: questions are rare, and none can go stale. httpx would cost every worker 12 MB more.
        from http import client

        connect = client.HTTPSConnection if self._secure else client.HTTPConnection
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise _Unanswered(f"{self} is too slow")
        connection = connect(self._name, self._port, timeout=seconds)
        try:
            payload = None if body is None else msgspec.json.encode(body)
            connection.request(method, self._path + path, payload, self._headers)
            response = connection.getresponse()
            return response.status, _json(_read(response, deadline))
        except (OSError, client.HTTPException) as error:
            raise _Unanswered(f"{self}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def __str__(self) -> str:
        return f"{self._name}:{self._port}" if self._port else self._name


def _read(response: Any, deadline: float) -> bytes:
    """The timeout of a socket is for one read: a server that sends drop by drop needs a bound in all."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise _Unanswered(f"an answer of more than {MAX_BYTES >> 20} MB")
        if time.monotonic() > deadline:
            raise _Unanswered("the answer takes too long")
    return b"".join(chunks)


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw[:200].decode(errors="replace")


def _parsed(text: str, schema_id: int) -> Schema:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if text.strip('"').isidentifier():  # a primitive schema may come without its quotes
            return text.strip('"')
        raise DecodeError("unreadable_schema", f"schema {schema_id} is no JSON: {text[:200]}") from None


def _says_registry(answer: Any) -> bool:
    """Return whether a 404 is the registry's own: 40401 for a subject, 40402 a version, 40403 a schema."""
    code = answer.get("error_code") if isinstance(answer, dict) else None
    return isinstance(code, int) and code // 100 == HTTPStatus.NOT_FOUND


def _message(answer: Any) -> str:
    if isinstance(answer, dict):
        return str(answer.get("message", answer))[:2000]
    return str(answer)[:200]


def subject_for(topic: Topic | str, full_name: str) -> str:
    """The subject that the registry files the schema of a class under, as the topic's `subjects` say.

    By default several classes live on one topic, and each evolves on its own.

    >>> subject_for("orders.events", "orders.OrderCreated")
    'orders.events-orders.OrderCreated'
    """
    name, subjects = (topic.name, topic.subjects) if isinstance(topic, Topic) else (topic, "topic_record")
    match subjects:
        case "topic":
            return f"{name}-value"
        case "record":
            return full_name
        case "topic_record":
            return f"{name}-{full_name}"
