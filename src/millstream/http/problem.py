"""RFC 9457 problem details."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from starlette.responses import JSONResponse

RETRY_AFTER = "1"
"""Seconds: a broker that was restarted is back by then."""


class Problem(Exception):
    """Raised by a route to answer with problem details.

    - `status`: of the HTTP response.
    - `detail`: for the person who reads it: what to do about it.
    - `title`: by default the phrase of the status.
    - `headers`: of the response, such as `Retry-After`.
    - `members`: further members of the object.

    >>> Problem(409, "this key was used with another body").title
    'Conflict'
    """

    code: ClassVar[str] = "http_problem"

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        title: str | None = None,
        type: str = "about:blank",
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail or title or str(status))
        self.status = status
        self.title = title or HTTPStatus(status).phrase
        self.detail = detail
        self.type = type
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> JSONResponse:
        """The answer to send."""
        content = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail is not None:
            content["detail"] = self.detail
        return JSONResponse(
            content | self.members, self.status, headers=self.headers, media_type="application/problem+json"
        )


def unavailable(detail: str) -> Problem:
    """A 503 that is safe to repeat after the seconds it names."""
    return Problem(503, detail, headers={"Retry-After": RETRY_AFTER})


def json_pointer(path: tuple[str | int, ...]) -> str:
    """The RFC 6901 pointer, as a URI fragment, to a place in a JSON document.

    >>> json_pointer(("lines", 0, "a/b"))
    '#/lines/0/a~1b'
    """
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
