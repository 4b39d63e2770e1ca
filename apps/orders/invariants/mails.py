"""What a mail is about, and what an audit need not keep of it."""

from msgspec.structs import replace

from millstream import Envelope
from orders.contracts import MailDue


def of_a_return(mail: MailDue, _: Envelope) -> str | None:
    """The id of the return that it is about, if it is about one."""
    return mail.about if mail.kind in ("returned", "return_refused") else None


def of_an_order(mail: MailDue, envelope: Envelope) -> str | None:
    """The id of the order that it is about, if it is about one."""
    return None if of_a_return(mail, envelope) else mail.about


def less_mail(mail: MailDue) -> MailDue:
    """Without what is personal, or long."""
    return replace(mail, customer_id=None, reference=None, reason=None)
