"""The routes of the control and their JSON; docs/faults.md describes them."""

import json
import logging
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from millstream.local.broker.errors import Refused
from millstream.local.control.control import MAX_ADVANCE_SECONDS, MAX_WAIT_SECONDS, Control, TooLate, Unknown
from millstream.local.faults.fault import BadFault, Fault
from millstream.local.http import HttpServer, Limits, Request, Response

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
DEFAULT_WAIT_SECONDS = 10.0

Answer = tuple[int, Any]
Route = Callable[["Call"], Awaitable[Answer]]


class Problem(Exception):
    """An answer of RFC 9457. `place` says where in the request the trouble is."""

    def __init__(self, status: int, title: str, detail: str, place: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        if place is not None:
            self.body["place"] = place


class Call:
    """One request: the parts of its path, its query and its JSON body."""

    def __init__(self, request: Request) -> None:
        url = urlsplit(request.target)
        self.method = request.method
        self.path = tuple(unquote(part) for part in url.path.split("/") if part)
        self._query = parse_qs(url.query, keep_blank_values=True)
        self._body = request.body

    def query(self, known: set[str]) -> None:
        """Raises Problem for a parameter that is none of `known`."""
        if unknown := sorted(set(self._query) - known):
            raise Problem(400, "Unknown parameter", f"{unknown[0]!r} is none of {', '.join(sorted(known))}", unknown[0])

    def number(self, name: str, default: float | None, most: float) -> float:
        """A number from 0 to `most` in the query."""
        given = self._query.get(name)
        if given is None:
            return _within(name, default, most)
        try:
            return _within(name, float(given[-1]), most)
        except ValueError:
            raise _bad(name, f"{given[-1]!r} is no number") from None

    def count(self, name: str, default: int | None) -> int | None:
        """A whole number in the query."""
        if name not in self._query:
            return default
        number = self.number(name, None, 1e9)
        if number != int(number):
            raise _bad(name, "must be a whole number")
        return int(number)

    def json(self) -> Any:
        """Raises Problem."""
        if len(self._body) > MAX_BODY_BYTES:
            raise Problem(413, "Too large", f"{len(self._body)} bytes; at most {MAX_BODY_BYTES} are taken")
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, "No JSON", f"the body is not valid JSON: {error}", "body") from None

    def field(self, name: str) -> Any:
        """The only field of the body. Raises Problem."""
        body = self.json()
        if not isinstance(body, dict) or set(body) != {name}:
            raise Problem(400, "Wrong body", f'the body must be an object with the one field "{name}"', "body")
        return body[name]


class Routes:
    """Answers HTTP requests for `control`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def handle(self, request: Request) -> Response:
        try:
            status, content = await self._answer(Call(request))
        except Problem as problem:
            return _response(problem.status, problem.body, "application/problem+json")
        except BadFault as bad:
            return _problem(422, "No such fault", str(bad), bad.place)
        except Unknown as unknown:
            return _problem(404, "Not there", str(unknown))
        except TooLate as late:
            return _problem(504, "Not in time", str(late))
        except Refused as refused:
            return _problem(422, "Refused", str(refused))
        except Exception as error:
            log.exception(
                "the control failed at %s %s", request.method, request.target, extra={"code": "control_request_failed"}
            )
            return _problem(500, "It failed", f"{type(error).__name__}: {error}; the broker's log has more")
        return _response(status, content, "application/json")

    async def _answer(self, call: Call) -> Answer:
        routes: dict[str, Route]
        match call.path:
            case ():
                routes = {"GET": self._overview}
            case ("faults",):
                routes = {"GET": self._list, "POST": self._add, "DELETE": self._clear}
            case ("faults", _):
                routes = {"GET": self._rule, "DELETE": self._remove}
            case ("groups", _):
                routes = {"GET": self._group}
            case ("clock",):
                routes = {"GET": self._time, "POST": self._advance}
            case ("compact",):
                routes = {"POST": self._compact}
            case ("expire",):
                routes = {"POST": self._expire}
            case _:
                raise Problem(404, "No such route", "there are /faults, /groups/NAME, /clock, /compact and /expire")
        if call.method not in routes:
            raise Problem(405, "Method not allowed", f"/{'/'.join(call.path)} takes {', '.join(routes)}")
        return await routes[call.method](call)

    async def _overview(self, call: Call) -> Answer:
        return 200, {"clock": self._control.time(), "faults": len(self._control.rules.by_id)}

    async def _list(self, call: Call) -> Answer:
        return 200, [rule.to_json() for rule in self._control.rules.by_id.values()]

    async def _add(self, call: Call) -> Answer:
        return 201, self._control.rules.add(Fault.from_json(call.json())).to_json()

    async def _clear(self, call: Call) -> Answer:
        self._control.rules.clear()
        return 204, None

    async def _rule(self, call: Call) -> Answer:
        call.query({"hits", "timeout"})
        rule = self._control.rule(_id(call))
        hits = call.count("hits", 0) or 0
        await self._control.wait_for_hits(rule, hits, call.number("timeout", DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS))
        return 200, rule.to_json()

    async def _remove(self, call: Call) -> Answer:
        self._control.rule(_id(call)).remove()
        return 204, None

    async def _group(self, call: Call) -> Answer:
        call.query({"members", "timeout"})
        members = call.count("members", None)
        timeout = call.number("timeout", DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS)
        return 200, await self._control.wait_for_group(call.path[1], members, timeout)

    async def _time(self, call: Call) -> Answer:
        return 200, self._control.time()

    async def _advance(self, call: Call) -> Answer:
        return 200, self._control.advance(_within("advance", call.field("advance"), MAX_ADVANCE_SECONDS))

    async def _compact(self, call: Call) -> Answer:
        topic = call.field("topic")
        if not isinstance(topic, str):
            raise _bad("topic", "must be a string")
        self._control.compact(topic)
        return 204, None

    async def _expire(self, call: Call) -> Answer:
        self._control.expire()
        return 204, None


async def serve(listener: socket.socket, control: Control) -> HttpServer:
    """Answer on a socket that is bound already, until the result is closed."""
    server = HttpServer(Routes(control).handle, Limits(request_seconds=60, connections=100))
    await server.start(listener)
    return server


def _id(call: Call) -> int:
    number = call.path[1]
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise Problem(404, "Not there", f"{number!r} is no number of a rule")
    return int(number)


def _within(name: str, value: Any, most: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= most:
        raise _bad(name, f"must be a number from 0 to {most:g}")
    return value


def _bad(place: str, detail: str) -> Problem:
    return Problem(422, "Out of bounds", f"{place}: {detail}", place)


def _problem(status: int, title: str, detail: str, place: str | None = None) -> Response:
    return _response(status, Problem(status, title, detail, place).body, "application/problem+json")


def _response(status: int, content: Any, media_type: str) -> Response:
    return Response(status, media_type, b"" if content is None else json.dumps(content).encode())
