"""The email service: one effect, from what is due to a mail that was handed over."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime

import httpx2
from aiosmtplib import SMTP, SMTPException
from jinja2 import Environment, PackageLoader, StrictUndefined

from millstream import Envelope, Retry, Service, Unsettled, exponential, hours, seconds
from millstream.settings import Settings
from orders.contracts import MailDue

GUEST = "guest@customers.example"
ANSWER_WITHIN = 10.0
"""Seconds for one answer of the server."""
SEND_WITHIN = 20.0
"""Seconds for one mail, connecting included: within the effect's own time-out."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

email = Service("email")

_templates = Environment(
    loader=PackageLoader("orders.email"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 plain text, not HTML
    auto_reload=False,
)


class _Headers(HeaderRegistry):
    """Makes the class of a header's name once; Python's own registry makes one for each header of each mail."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, type] = {}

    def __getitem__(self, name: str) -> type:
        if name not in self._made:
            self._made[name] = super().__getitem__(name)
        return self._made[name]


_policy = EmailPolicy(header_factory=_Headers())
_SENDER = _policy.header_factory("From", "Millstream Orders <orders@shop.example>")


class Mailer:
    """Hands mails to an SMTP server, over connections that are kept open.

    - `find`: says where the server is, as (host, port); asked for each new connection, because it may have moved.
    """

    def __init__(self, find: Callable[[], Awaitable[tuple[str, int]]]) -> None:
        self._find = find
        self._idle: list[SMTP] = []

    async def send(self, mail: EmailMessage) -> None:
        """Delivers one mail. Raises `Unsettled` where the server did not take it."""
        server: SMTP | None = None
        try:
            async with asyncio.timeout(SEND_WITHIN):
                server = self._idle.pop() if self._idle else await self._connect()
                await server.send_message(mail)
        except (SMTPException, httpx2.HTTPError, OSError) as error:
            if server is not None:
                server.close()
            raise Unsettled(f"mail {mail['Message-ID']}: {type(error).__name__}: {error}") from error
        except BaseException:
            if server is not None:
                server.close()
            raise
        self._idle.append(server)

    def close(self) -> None:
        """Drops the connections."""
        for server in self._idle:
            server.close()

    async def _connect(self) -> SMTP:
        host, port = await self._find()
        server = SMTP(hostname=host, port=port, local_hostname="localhost", timeout=ANSWER_WITHIN, start_tls=False)
        try:
            await server.connect()
        except BaseException:
            server.close()
            raise
        return server


@email.provides
async def mailer(settings: Settings) -> AsyncIterator[Mailer]:
    """The server at the address called `smtp`; where there is none, the sandbox's mailbox, which says its port."""

    async def find() -> tuple[str, int]:
        if "smtp" in settings.addresses:
            host, _, port = settings.address("smtp").rpartition("://")[2].rpartition(":")
            return host, int(port)
        async with httpx2.AsyncClient(base_url=settings.address("mailbox"), timeout=5) as client:
            told = (await client.get("/smtp")).raise_for_status().json()
        return told["host"], told["port"]

    sender = Mailer(find)
    try:
        yield sender
    finally:
        sender.close()


@email.effect(
    MailDue, timeout=seconds(30), retry=Retry(attempts=None, backoff=exponential(0.2, limit=10), within=hours(24))
)
async def send(due: MailDue, envelope: Envelope, mailer: Mailer) -> None:
    """Sends the mail that is due. After a crash it may go out twice, with the same Message-ID."""
    await mailer.send(render(due, envelope))


def render(due: MailDue, envelope: Envelope) -> EmailMessage:
    """The mail: a stable Message-ID from the event's id; the template's first line is the subject."""
    text = _templates.get_template(f"{due.kind}.txt").render(
        about=due.about, reference=due.reference, amount=f"{due.amount:.2f}", reason=due.reason
    )
    subject, _, body = text.partition("\n")
    mail = EmailMessage(_policy)
    mail["From"] = _SENDER
    mail["To"] = _address(due.customer_id)
    # Whatever a customer wrote: a header is one line.
    mail["Subject"] = " ".join(subject.split())
    mail["Date"] = format_datetime(envelope.time)
    mail["Message-ID"] = f"<{envelope.id}@orders.shop.example>"
    mail["X-About"] = due.about
    mail["X-Kind"] = due.kind
    mail.set_content(body)
    return mail


def _address(customer_id: str | None) -> str:
    if customer_id is None:
        return GUEST
    return f"customer-{_UNSAFE.sub('-', customer_id)}@customers.example"
