"""Errors that pass by themselves, so that the same call can succeed later: the table behind `Retry`'s default.

Each library has its own idea of a base class: `smtplib` and `requests` derive every error from `OSError`, `httpx` none.
So the table goes by class, the most specific one first, and knows classes by name: no library is imported for it.
`docs/dead-letters.md` shows it to users; change both together.
"""

from collections.abc import Callable
from typing import Any, Final

Judge = bool | Callable[[Any], bool]
"""The verdict on errors of a class: they pass, they do not, or how to tell by what one carries."""

_HTTP_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that ask for another attempt, or that a server gives in its own trouble."""

_SQL_STATES: Final = ("08", "40", "53", "57P", "55P03")
"""SQLSTATEs of trouble that is not the statement's: connection, conflict, resources, shutdown, a lock not had."""

SQLITE_CODES: Final = frozenset({5, 6, 10, 15})
"""SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR and SQLITE_PROTOCOL."""

_KAFKA_ERRORS: Final = frozenset(
    {
        "_ALL_BROKERS_DOWN",
        "_MSG_TIMED_OUT",
        "_QUEUE_FULL",
        "_RESOLVE",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "_WAIT_COORD",
        "BROKER_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "FENCED_LEADER_EPOCH",
        "LEADER_NOT_AVAILABLE",
        "NETWORK_EXCEPTION",
        "NOT_COORDINATOR",
        "NOT_ENOUGH_REPLICAS",
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "NOT_LEADER_FOR_PARTITION",
        "REQUEST_TIMED_OUT",
        "THROTTLING_QUOTA_EXCEEDED",
        "UNKNOWN_LEADER_EPOCH",
    }
)
"""As `KafkaError.name()` has them; librdkafka marks few of its errors as retriable."""


def is_transient(error: BaseException) -> bool:
    """Return whether `error` passes by itself. One of an unknown class does not; nor does one that carries nonsense.

    >>> is_transient(ConnectionResetError()), is_transient(FileNotFoundError()), is_transient(ValueError())
    (True, False, False)
    """
    for of in type(error).__mro__:
        judge = _TABLE.get(f"{of.__module__.partition('.')[0]}.{of.__name__}")
        if judge is not None:
            return judge if isinstance(judge, bool) else judge(error)
    return False


def _by_status(*path: str) -> Callable[[Any], bool]:
    def judge(error: Any) -> bool:
        found = error
        for name in path:
            found = getattr(found, name, None)
        return found in _HTTP_STATUSES

    return judge


def _by_smtp_code(error: Any) -> bool:
    # 4xx is "try again later"; without a code in the answer, the connection is what failed.
    code = getattr(error, "smtp_code", None) or getattr(error, "code", None) or 0
    return code <= 0 or 400 <= code < 500


def _by_smtp_recipients(error: Any) -> bool:
    recipients: Any = error.recipients
    if isinstance(recipients, dict):  # smtplib's, by address: (code, text)
        codes: list[Any] = [answer[0] for answer in recipients.values()]  # pyright: ignore[reportUnknownVariableType]
        return any(400 <= code < 500 for code in codes)
    return any(_by_smtp_code(refused) for refused in recipients)


def _by_sql_state(error: Any) -> bool:
    state = getattr(error, "sqlstate", None)
    # A server that cannot be reached gives no state.
    return state.startswith(_SQL_STATES) if state else _is_called(error, "OperationalError")


def _by_sqlite_code(error: Any) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in SQLITE_CODES


def _by_database(error: Any) -> bool:
    """An error of SQLAlchemy's around that of a driver."""
    if error.connection_invalidated:
        return True
    if getattr(error.orig, "sqlite_errorcode", None) is not None:
        return _by_sqlite_code(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    return state.startswith(_SQL_STATES) if state else _is_called(error, "OperationalError")


def _by_kafka_error(error: Any) -> bool:
    cause: Any = error.args[0] if error.args else error
    if not hasattr(cause, "retriable") or cause.fatal():
        return False
    return cause.retriable() or cause.name() in _KAFKA_ERRORS


def _is_called(error: BaseException, name: str) -> bool:
    return any(of.__name__ == name for of in type(error).__mro__)


_HTTPX: Final[dict[str, Judge]] = {
    "TransportError": True,
    "UnsupportedProtocol": False,
    "LocalProtocolError": False,
    "HTTPStatusError": _by_status("response", "status_code"),
}

_TABLE: Final[dict[str, Judge]] = {
    # Python
    "builtins.OSError": True,
    "builtins.FileNotFoundError": False,
    "builtins.FileExistsError": False,
    "builtins.IsADirectoryError": False,
    "builtins.NotADirectoryError": False,
    "builtins.PermissionError": False,
    "ssl.SSLCertVerificationError": False,
    "asyncio.CancelledError": True,
    "asyncio.IncompleteReadError": True,
    "concurrent.CancelledError": True,
    "http.BadStatusLine": True,
    "http.IncompleteRead": True,
    "urllib.HTTPError": _by_status("code"),
    # HTTP clients
    **{f"{library}.{name}": judge for library in ("httpx", "httpx2") for name, judge in _HTTPX.items()},
    "aiohttp.ClientConnectionError": True,
    "aiohttp.ClientPayloadError": True,
    "aiohttp.ClientConnectorCertificateError": False,
    "aiohttp.InvalidURL": False,
    "aiohttp.ClientResponseError": _by_status("status"),
    "requests.RequestException": False,
    "requests.ConnectionError": True,
    "requests.Timeout": True,
    "requests.ChunkedEncodingError": True,
    "requests.RetryError": True,
    "requests.SSLError": False,
    "requests.HTTPError": _by_status("response", "status_code"),
    "urllib3.TimeoutError": True,
    "urllib3.ProtocolError": True,
    "urllib3.ProxyError": True,
    "urllib3.MaxRetryError": True,
    "urllib3.EmptyPoolError": True,
    # Databases
    "sqlalchemy.DBAPIError": _by_database,
    "sqlalchemy.TimeoutError": True,
    "sqlalchemy.DisconnectionError": True,
    "sqlalchemy.PendingRollbackError": True,
    "psycopg.Error": _by_sql_state,
    "sqlite3.Error": _by_sqlite_code,
    # Mail
    "smtplib.SMTPException": False,
    "smtplib.SMTPServerDisconnected": True,
    "smtplib.SMTPResponseException": _by_smtp_code,
    "smtplib.SMTPRecipientsRefused": _by_smtp_recipients,
    "aiosmtplib.SMTPException": False,
    "aiosmtplib.SMTPServerDisconnected": True,
    "aiosmtplib.SMTPConnectError": True,
    "aiosmtplib.SMTPTimeoutError": True,
    "aiosmtplib.SMTPResponseException": _by_smtp_code,
    "aiosmtplib.SMTPRecipientsRefused": _by_smtp_recipients,
    # Kafka
    "cimpl.KafkaException": _by_kafka_error,
}
"""By the package of a class and its name. Classes that derive from one go with it, unless they are here themselves."""
