"""The mailbox: takes every mail by SMTP, keeps it on disk, and shows it to whoever looks."""

import asyncio
import email
import email.policy
import logging
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Annotated

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from millstream.settings import Settings
from orders.sandbox.serving import serve

MAX_BYTES = 1_000_000
MANY = 1 << 31
SHOWN = 200
"""How many mails the page lists, newest first."""


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the mailbox behaves: so many mails are refused for now, as greylisting does, and keep being refused."""

    refuse_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0

    def refuses(self, message_id: str) -> bool:
        """Whether this mail is among them."""
        return random.Random(message_id).random() < self.refuse_ratio  # noqa: S311 a game of dice


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail as it was delivered; a second delivery of the same mail has the same `message_id`."""

    message_id: str
    to: str
    subject: str
    about: str
    kind: str
    body: str


class Mailbox:
    """Mails in one file, a JSON object a line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.behaviour = Behaviour()
        self._lock = threading.Lock()
        self._mails = _read(path)
        self._file = path.open("ab")

    def keep(self, mail: Mail) -> None:
        """Appends one mail; it survives the process."""
        with self._lock:
            self._file.write(msgspec.json.encode(mail) + b"\n")
            self._file.flush()
            self._mails.append(mail)

    def mails(self) -> list[Mail]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._mails)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 aiosmtpd's name
        """Called by the SMTP server with each mail."""
        if self._file.closed:
            return "421 the mailbox is closing, try again"
        content = envelope.content
        parsed = email.message_from_bytes(
            content if isinstance(content, bytes) else (content or "").encode(), policy=email.policy.default
        )
        if self.behaviour.refuses(str(parsed["Message-ID"])):
            return "451 not now, try again later"
        self.keep(
            Mail(
                message_id=str(parsed["Message-ID"] or ""),
                to=", ".join(envelope.rcpt_tos),
                subject=str(parsed["Subject"] or ""),
                about=str(parsed["X-About"] or ""),
                kind=str(parsed["X-Kind"] or ""),
                body=parsed.get_content() if not parsed.is_multipart() else "",
            )
        )
        return "250 OK"


def application(path: Path, host: str, smtp_port: int = 0) -> Starlette:
    """The mailbox at `path`, taking mails at `host` on a port that `GET /smtp` tells."""
    mailbox = Mailbox(path)
    # The SMTP library says four lines about each connection.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    listening: list[tuple[str, int]] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(mailbox, hostname="mailbox", data_size_limit=MAX_BYTES), host, smtp_port
        )
        listening.append(server.sockets[0].getsockname()[:2])
        try:
            yield
        finally:
            server.close()
            mailbox.close()

    async def smtp(request: Request) -> Response:
        host, port = listening[0]
        return JSONResponse({"host": host, "port": port})

    async def listing(request: Request) -> Response:
        about = request.query_params.get("about")
        try:
            after, limit = (int(request.query_params.get(name, most)) for name, most in (("after", 0), ("limit", MANY)))
        except ValueError:
            return JSONResponse({"error": "after and limit are whole numbers"}, 422)
        found = [mail for mail in mailbox.mails() if about in (None, mail.about)][max(after, 0) :][: max(limit, 0)]
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def behave(request: Request) -> Response:
        if request.method == "POST":
            try:
                mailbox.behaviour = msgspec.json.decode(await request.body(), type=Behaviour)
            except msgspec.DecodeError as error:
                return JSONResponse({"error": str(error)}, 422)
        return Response(msgspec.json.encode(mailbox.behaviour), media_type="application/json")

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(mailbox.mails()))

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", page),
            Route("/mails", listing),
            Route("/smtp", smtp),
            Route("/behaviour", behave, methods=["GET", "POST"]),
        ],
    )


def main(settings: Settings) -> None:
    """The process."""
    serve(application(settings.data_dir / "sandbox" / "mails.jsonl", settings.listen[0]), settings)


def _read(path: Path) -> list[Mail]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        # The process was killed in the middle of a line; its sender was never told 250 and sends the mail again.
        path.write_bytes(whole)
    return [msgspec.json.decode(line, type=Mail) for line in whole.splitlines()]


def _page(mails: list[Mail]) -> str:
    rows = "".join(
        f"<details><summary><b>{escape(mail.subject)}</b> <span>{escape(mail.to)}</span></summary>"
        f"<pre>{escape(mail.body)}</pre></details>"
        for mail in reversed(mails[-SHOWN:])
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Mailbox</title>"
        "<style>body{font:15px system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "details{border-bottom:1px solid #ddd;padding:.5rem 0}span{color:#666}</style>"
        f"<h1>Mailbox</h1><p>{len(mails)} mails, the newest {min(len(mails), SHOWN)} shown.</p>{rows}"
    )
