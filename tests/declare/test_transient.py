"""What is retried by default, with the exceptions that the libraries themselves raise."""

import asyncio
import concurrent.futures
import http.client
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
from email.message import Message
from typing import Any

import aiohttp
import aiosmtplib
import httpx
import httpx2
import psycopg
import pytest
import requests
import sqlalchemy.exc
import urllib3.exceptions
from confluent_kafka import KafkaError, KafkaException
from sqlalchemy import create_engine, text
from yarl import URL

from millstream.declare import Retry
from millstream.declare.transient import is_transient
from millstream.errors import Rejected, Unsettled


def answered(client: Any, status: int) -> Exception:
    request = client.Request("GET", "http://gateway.example/charges")
    with pytest.raises(client.HTTPStatusError) as raised:
        client.Response(status, request=request).raise_for_status()
    return raised.value


def asked_with_requests(status: int) -> Exception:
    answer = requests.Response()
    answer.status_code, answer.url = status, "http://gateway.example"
    with pytest.raises(requests.HTTPError) as raised:
        answer.raise_for_status()
    return raised.value


def asked_with_aiohttp(status: int) -> Exception:
    headers: Any = {}
    url = URL("http://gateway.example")
    return aiohttp.ClientResponseError(aiohttp.RequestInfo(url, "GET", headers, url), (), status=status)


def of_driver(error: Exception, kind: type[sqlalchemy.exc.DBAPIError] = sqlalchemy.exc.OperationalError) -> Exception:
    return kind("SELECT 1", {}, error)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = code
    return error


def of_sqlite(statement: str) -> Exception:
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError) as raised, create_engine("sqlite://").connect() as connection:
        connection.execute(text(statement))
    return raised.value


def of_kafka(code: int, *, fatal: bool = False, retriable: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "trouble", fatal, retriable))


certificate = ssl.SSLCertVerificationError("self-signed certificate")
key: Any = aiohttp.client_reqrep.ConnectionKey("gateway.example", 443, True, True, None, None, None)

PASSES = [
    ConnectionResetError(),
    BrokenPipeError(),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    OSError(28, "No space left on device"),
    TimeoutError(),
    asyncio.CancelledError(),
    asyncio.IncompleteReadError(b"", 4),
    concurrent.futures.CancelledError(),
    http.client.RemoteDisconnected(),
    http.client.IncompleteRead(b""),
    urllib.error.URLError("refused"),
    urllib.error.HTTPError("http://x.example", 503, "busy", Message(), None),
    *[
        client_error
        for client in (httpx, httpx2)
        for client_error in (
            client.ConnectError("refused"),
            client.ReadError("reset"),
            client.ReadTimeout("silent"),
            client.PoolTimeout("no place"),
            client.RemoteProtocolError("closed without an answer"),
            client.ProxyError("refused"),
            *[answered(client, status) for status in (408, 429, 500, 503)],
        )
    ],
    aiohttp.ClientConnectorError(key, OSError(111, "refused")),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ServerTimeoutError(),
    aiohttp.ClientPayloadError(),
    asked_with_aiohttp(429),
    requests.ConnectionError(),
    requests.ConnectTimeout(),
    requests.ReadTimeout(),
    requests.exceptions.ChunkedEncodingError(),
    asked_with_requests(502),
    urllib3.exceptions.ProtocolError("closed"),
    urllib3.exceptions.MaxRetryError(None, "http://x.example"),  # type: ignore[arg-type] # the pool is no matter here
    sqlalchemy.exc.TimeoutError(),
    of_driver(sqlite_error(sqlite3.SQLITE_BUSY)),
    of_driver(psycopg.OperationalError("connection refused")),
    of_driver(psycopg.errors.DeadlockDetected()),
    of_driver(psycopg.errors.SerializationFailure()),
    of_driver(psycopg.errors.AdminShutdown()),
    psycopg.OperationalError("connection refused"),
    psycopg.errors.SerializationFailure(),
    sqlite_error(sqlite3.SQLITE_LOCKED),
    smtplib.SMTPServerDisconnected("closed"),
    smtplib.SMTPConnectError(421, "busy"),
    smtplib.SMTPDataError(451, "greylisted"),
    smtplib.SMTPRecipientsRefused({"a@x.example": (450, b"later"), "b@x.example": (550, b"unknown")}),
    aiosmtplib.SMTPServerDisconnected("closed"),
    aiosmtplib.SMTPConnectError("refused"),
    aiosmtplib.SMTPReadTimeoutError("silent"),
    aiosmtplib.SMTPDataError(451, "greylisted"),
    aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(450, "later", "a@x.example")]),
    of_kafka(KafkaError._TRANSPORT),
    of_kafka(KafkaError._QUEUE_FULL),
    of_kafka(KafkaError.NOT_LEADER_FOR_PARTITION),
    of_kafka(KafkaError.UNKNOWN, retriable=True),
]

STAYS = [
    FileNotFoundError(),
    PermissionError(),
    certificate,
    ValueError(),
    KeyError("state"),
    SystemExit(1),
    urllib.error.HTTPError("http://x.example", 404, "none", Message(), None),
    *[
        client_error
        for client in (httpx, httpx2)
        for client_error in (
            client.UnsupportedProtocol("ftp"),
            client.LocalProtocolError("a header with a line break"),
            client.InvalidURL("http://"),
            client.DecodingError("no gzip"),
            client.TooManyRedirects("round and round"),
            *[answered(client, status) for status in (400, 401, 404, 422)],
        )
    ],
    aiohttp.ClientConnectorCertificateError(key, certificate),
    aiohttp.InvalidURL("http://"),
    asked_with_aiohttp(404),
    requests.exceptions.InvalidURL(),
    requests.exceptions.SSLError(),
    requests.JSONDecodeError("no JSON", "", 0),
    asked_with_requests(404),
    requests.HTTPError("without a response"),
    of_sqlite("SELECT * FROM nowhere"),
    of_driver(psycopg.errors.UniqueViolation(), sqlalchemy.exc.IntegrityError),
    of_driver(psycopg.errors.UndefinedTable(), sqlalchemy.exc.ProgrammingError),
    sqlalchemy.exc.NoResultFound(),
    psycopg.errors.UniqueViolation(),
    sqlite3.OperationalError("no such table"),
    smtplib.SMTPAuthenticationError(535, "wrong password"),
    smtplib.SMTPNotSupportedError("no SMTPUTF8"),
    smtplib.SMTPRecipientsRefused({"a@x.example": (550, b"unknown")}),
    aiosmtplib.SMTPAuthenticationError(535, "wrong password"),
    aiosmtplib.SMTPNotSupported("no SMTPUTF8"),
    aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(550, "unknown", "a@x.example")]),
    of_kafka(KafkaError.TOPIC_AUTHORIZATION_FAILED),
    of_kafka(KafkaError.MSG_SIZE_TOO_LARGE),
    of_kafka(KafkaError._TRANSPORT, fatal=True),
    KafkaException("no KafkaError at all"),
]


def named(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


@pytest.mark.parametrize("error", PASSES, ids=named)
def test_what_passes_is_retried_by_default(error: BaseException):
    assert is_transient(error)
    assert Retry().allows(error, 1, 0.0)


@pytest.mark.parametrize("error", STAYS, ids=named)
def test_what_stays_is_not_retried_by_default(error: BaseException):
    assert not is_transient(error)
    assert not Retry().allows(error, 1, 0.0)


def test_an_error_that_says_so_itself_goes_before_the_table():
    class Busy(ValueError):
        retriable = True

    class Closed(ConnectionError):
        retriable = False

    assert Retry().allows(Busy(), 1, 0.0)
    assert not Retry().allows(Closed(), 1, 0.0)
    assert Retry().allows(Unsettled("ask later"), 1, 0.0)
    assert not Retry().allows(Rejected("too_heavy"), 1, 0.0)


def test_classes_that_derive_from_one_of_the_table_go_with_it():
    class GatewayAway(httpx2.ConnectError):
        pass

    assert is_transient(GatewayAway("refused"))


def test_the_table_imports_none_of_the_libraries():
    script = """
import sys
from millstream.declare.transient import is_transient
assert is_transient(ConnectionError()) and not is_transient(ValueError())
libraries = {"httpx", "httpx2", "aiohttp", "requests", "sqlalchemy", "psycopg", "smtplib", "confluent_kafka"}
assert not libraries & set(sys.modules), libraries & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
