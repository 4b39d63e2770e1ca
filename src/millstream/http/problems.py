"""Answers to requests that fail: RFC 9457 problem details, and nothing of our inside."""

import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from millstream.errors import CommitUnknown, EncodeError, RegistryUnavailable, TransactionAborted, Unavailable
from millstream.http.body_limit import DEFAULT_BODY_LIMIT, BodyLimit
from millstream.http.problem import Problem, json_pointer, unavailable
from millstream.telemetry import get_logger

MAX_ERRORS = 100
"""The number of bad fields that one answer names: a request with 100,000 of them gets no answer of many megabytes."""

_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer to the field in the body"},
                    "parameter": {"type": "string", "description": "name of the query, path or header parameter"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

log = get_logger(__name__)


def install_problems(app: FastAPI, *, body_limit: int = DEFAULT_BODY_LIMIT) -> None:
    """Makes `app` answer every failure with problem details. Call it before the routes are declared.

    - `body_limit`: bytes; a larger body is answered 413 without being kept.
    """
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(EncodeError, _does_not_fit)
    app.add_exception_handler(CommitUnknown, _commit_unknown)
    for nothing_written in (Unavailable, TransactionAborted, RegistryUnavailable):
        app.add_exception_handler(nothing_written, _nothing_written)
    # A route that asks a database has imported SQLAlchemy by now, and no other needs it.
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import DBAPIError

        app.add_exception_handler(DBAPIError, _database_fails)
    app.add_exception_handler(Exception, _unforeseen)
    app.add_middleware(BodyLimit, limit=body_limit)
    # Else the OpenAPI document promises FastAPI's own error format.
    app.router.responses |= {
        422: {
            "description": "A field is missing or wrong",
            "content": {"application/problem+json": {"schema": _PROBLEM_SCHEMA}},
        }
    }


def _problem(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Problem)
    return problem.response()


def _invalid(request: Request, invalid: Exception) -> JSONResponse:
    assert isinstance(invalid, RequestValidationError)
    errors = invalid.errors()
    if errors and errors[0]["type"] == "json_invalid":
        reason = errors[0].get("ctx", {}).get("error", "it ends too early")
        return Problem(400, f"The body is not JSON: {reason}, at character {errors[0]['loc'][-1]}.").response()
    found = [_field(error) for error in errors[:MAX_ERRORS]]
    where = ", ".join(error.get("pointer") or error["parameter"] for error in found[:3])
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return Problem(
        422, f"The request does not fit: see {where}{more}.", title="Invalid request", errors=found
    ).response()


def _field(error: Mapping[str, Any]) -> dict[str, str]:
    where, *path = error["loc"]
    # pydantic's "input" and "ctx" stay out: they would echo what was sent.
    if where == "body":
        return {"pointer": json_pointer(tuple(path)), "detail": error["msg"]}
    return {"parameter": str(path[-1] if path else where), "detail": error["msg"]}


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else _explained(request, error)
    return Problem(error.status_code, detail, headers=error.headers).response()


def _explained(request: Request, error: HTTPException) -> str | None:
    if error.status_code == 404:
        return "There is nothing at this path."
    if error.status_code == 405:
        return f"{request.method} is not possible here."
    return None


def _does_not_fit(request: Request, error: Exception) -> JSONResponse:
    return Problem(422, str(error), title="Invalid request").response()


def _commit_unknown(request: Request, error: Exception) -> JSONResponse:
    return unavailable(
        "It is not known whether the request was carried out. Repeat it with the same Idempotency-Key."
    ).response()


def _nothing_written(request: Request, error: Exception) -> JSONResponse:
    return unavailable(
        "Nothing was written: the event log does not answer at the moment. Repeat the request."
    ).response()


def _database_fails(request: Request, error: Exception) -> JSONResponse:
    from millstream.runtime.sql.database import passing

    if not passing(error):
        return _unforeseen(request, error)
    return unavailable(
        "The service's database does not answer at the moment. Repeat the request with the same Idempotency-Key."
    ).response()


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", code="request_failed", path=request.url.path, exc_info=error)
    return Problem(500, "This is our fault; it has been logged.").response()
