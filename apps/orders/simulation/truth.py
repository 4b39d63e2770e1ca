"""What must be true of the order system when nothing is on its way any more, whatever went wrong before."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from millstream.contracts import Contracts
from millstream.contracts.headers import envelope_from
from millstream.declare import Topic, key_of
from millstream.kafka import Kafka, headers_of
from millstream.operate.verify import Auditor
from orders import contracts as declared
from orders.contracts import (
    MailDue,
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    OrderEvent,
    PaymentRefunded,
    RequestReturn,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefused,
    StockProduct,
    StockWithdrawalRefused,
)
from orders.invariants import invariants
from orders.simulation.customers import Request
from orders.simulation.outside import SimulatedGateway, SimulatedMailer

TOPICS = tuple(value for value in vars(declared).values() if isinstance(value, Topic))


class Truth:
    """All events of a world that has come to rest, and what others remember of it."""

    def __init__(self, kafka: Kafka, contracts: Contracts, folder: Path) -> None:
        self._folder = folder
        self._auditor = Auditor(invariants)
        self.events: defaultdict[type, list[tuple[str, Any]]] = defaultdict(list)
        """By class, with the id of each."""
        self.dead: list[tuple[str, str]] = []
        """The key of each dead letter, and its headers."""
        for topic in TOPICS:
            decode = contracts.decoder([topic]).decode
            for batch in kafka.read_to_end(topic.name):
                for message in batch:
                    event = decode(message.value())
                    envelope = envelope_from(message, type(event))
                    self._auditor.see(event, envelope)
                    self.events[type(event)].append((envelope.id, event))
            for batch in kafka.read_to_end(topic.dead_letters):
                for message in batch:
                    told = f"{topic.dead_letters}: {dict(headers_of(message))}"
                    self.dead.append(((message.key() or b"").decode(), told))

    def violations(self, requests: list[Request], gateway: SimulatedGateway, mailer: SimulatedMailer) -> Iterator[str]:
        """What is not as it must be: first what the log itself shows, then what others remember otherwise."""
        yield from self.audited()
        yield from (f"dead letter: {told}" for key, told in self.dead if key not in gateway.garbled)
        yield from self._requests(requests)
        yield from self._money(gateway)
        yield from self._stock()
        yield from self._mails(mailer)
        yield from self._rows()

    def audited(self) -> Iterator[str]:
        """What the auditor finds."""
        waiting = self._waiting_for_a_person()
        for violation in self._auditor.violations(at_rest=True):
            if not (violation.invariant == "return: ends once" and violation.key in waiting):
                yield f"audit: {violation}"

    def _waiting_for_a_person(self) -> set[str]:
        """Returns whose goods were sold again before they could be withdrawn: their saga is parked."""
        refused = {event.return_id for _, event in self.events[StockWithdrawalRefused]}
        return refused - {event.return_id for _, event in self.events[ReturnRefused]}

    def _requests(self, requests: list[Request]) -> Iterator[str]:
        for asked, written in ((OrderCreated, OrderCreated), (RequestReturn, ReturnAccepted)):
            wanted = {request.id for request in requests if isinstance(request.events[0], asked)}
            found = {key_of(event) for _, event in self.events[written]}
            if wanted != found:
                yield f"asked for and not written down, or the other way round: {sorted(wanted ^ found)}"

    def _money(self, gateway: SimulatedGateway) -> Iterator[str]:
        back = {event.order_id: event.amount for _, event in self.events[PaymentRefunded]}
        totals = {event.order_id: event.total for _, event in self.events[OrderCreated]}
        completed = {event.order_id for _, event in self.events[OrderCompleted]}
        for id, total in totals.items():
            charge = gateway.charges.get(id)
            kept = Decimal(charge.amount) if charge is not None and charge.state == "charged" else Decimal(0)
            if kept != (total if id in completed else 0):
                ended = "completed" if id in completed else "not completed"
                yield f"order {id} of {total} cost the customer {kept}, and is {ended}"
            given = Decimal(charge.amount) if charge is not None and charge.state == "refunded" else Decimal(0)
            if back.get(id, Decimal(0)) != given:
                yield f"order {id} got {given} back, and events say {back.get(id)}"
        refunds = {event.return_id: event.amount for _, event in self.events[ReturnRefunded]}
        if refunds != gateway.refunds:
            yield f"refunds of returns are {gateway.refunds}, and events say {refunds}"

    def _stock(self) -> Iterator[str]:
        expected: Counter[str] = Counter()
        for event in {event.delivery_id: event for _, event in self.events[StockProduct]}.values():
            expected[event.product] += event.quantity
        returned = {event.return_id for _, event in self.events[ReturnCompleted]} | self._waiting_for_a_person()
        for event in {event.return_id: event for _, event in self.events[ReturnAccepted]}.values():
            if event.return_id in returned:
                for line in event.lines:
                    expected[line.product] += line.quantity
        completed = {event.order_id for _, event in self.events[OrderCompleted]}
        for event in {event.order_id: event for _, event in self.events[OrderCreated]}.values():
            if event.order_id in completed:
                for line in event.lines:
                    expected[line.product] -= line.quantity
        for product, on_hand, reserved in self._query("inventory", "SELECT product, on_hand, reserved FROM products"):
            if on_hand != expected[product] or reserved:
                yield f"stock of {product}: {on_hand}, of it reserved {reserved}; it must be {expected[product]}, 0"

    def _mails(self, mailer: SimulatedMailer) -> Iterator[str]:
        due = {f"<{id}@orders.shop.example>" for id, _ in self.events[MailDue]}
        if due != set(mailer.mails):
            yield f"mails due and not sent, or the other way round: {sorted(due ^ set(mailer.mails))}"
        # An event that waits for its next attempt keeps those behind it waiting: what came first is told first.
        mails = {f"<{id}@orders.shop.example>": event for id, event in self.events[MailDue]}
        told: set[str] = set()
        for mail in (mails[id] for id in mailer.mails if id in mails):
            if mail.kind == "created" and mail.about in told:
                yield f"the customer of order {mail.about} was told how it ended before that it is created"
            told.add(mail.about)

    def _rows(self) -> Iterator[str]:
        shown = dict(self._query("read-model", "SELECT id, status FROM order_rows"))
        for kind, status in ((OrderCompleted, "completed"), (OrderCancelled, "cancelled")):
            for _, event in self.events[kind]:
                if shown.get(event.order_id) != status:
                    yield f"order {event.order_id} is {status}, and shown as {shown.get(event.order_id)}"
        known = {id for kind, events in self.events.items() if issubclass(kind, OrderEvent) for id, _ in events}
        kept = {id for (id,) in self._query("read-model", "SELECT event_id FROM history")}
        if missing := known - kept:
            yield f"events missing in the history: {sorted(missing)}"

    def _query(self, service: str, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self._folder / "services" / f"{service}.db")) as db:
            return db.execute(statement).fetchall()
