"""From a record to a handler and its event."""

from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.contracts.headers import envelope_from, identity, metadata, told_apart
from millstream.contracts.tombstones import with_key
from millstream.declare import Contract, Envelope, Handler, Kind, Service
from millstream.kafka.port import Message
from millstream.runtime.records.foreign_keys import KeyChecks


class EventMetadata:
    """The identity of an event and the story that it belongs to.

    - `id`: a foreign record, which has none, gets one made of where it lies.
    - `correlation_id`: the id of the first event of the story.
    - `identity`: what tells it from every other event: what its topic declares; else its id, and the source with it
      where another system gave the id. Ids of its outputs are derived from it.
    - `traceparent`: may be replaced, by that of the span in which the event is handled.
    """

    __slots__ = ("_contract", "_envelope", "correlation_id", "declared", "id", "identity", "message", "traceparent")

    def __init__(self, message: Message, contract: type[Contract]) -> None:
        self.message = message
        self._contract = contract
        self._envelope: Envelope | None = None
        self.declared: str | None = None
        """The identity that the event's topic declares."""
        self.id, self.correlation_id, self.traceparent, self.identity = identity(metadata(message, contract), message)

    def envelope(self) -> Envelope:
        """Return all of the metadata, as handlers see it."""
        if self._envelope is None:
            self._envelope = envelope_from(self.message, self._contract)
        return self._envelope

    def inbox_key(self) -> str:
        """Return the key under which an inbox knows the event: the declared identity, or source and id."""
        if self.declared is not None:
            return self.declared
        envelope = self.envelope()
        return told_apart(envelope.source, envelope.id)


class InboundReader:
    """Reads the records of the topics that a service's handlers of one kind consume.

    `decode` by topic and `handlers` by class are what `read` puts together; a hot loop takes them apart, and calls the
    handlers of deletions by `keyed`. `keys` are the checks of the records' keys.
    """

    def __init__(self, service: Service, kind: Kind, contracts: Contracts) -> None:
        self.handlers: dict[type[Contract], Handler] = {
            contract: handler for handler in service.of_kind(kind) for contract in handler.consumes
        }
        self.keys = KeyChecks(service, self.handlers)
        self.decode = {topic.name: contracts.decoder([topic]).decode for topic in service.consumed(kind)}

    def read(self, message: Message) -> tuple[Handler, Any, EventMetadata] | None:
        """Return the handler of a record, its event and its metadata; `None` for a record that no handler takes.

        Raises `DecodeError` for bytes that are no event of their topic, headers that cannot be read, or a key that its
        topic or its handler refuses (`foreign_key`), and `RegistryUnavailable` where only the registry knows.
        """
        event = self.decode[message.topic()](message.value())
        contract = type(event)
        handler = self.handlers.get(contract)
        if handler is None:
            # Its headers are not read either.
            return None
        if contract.__deletes__ is not None:
            event = with_key(event, message.key())
        elif (check := self.keys.get(contract)) is not None:
            check(event, message)
        return handler, event, EventMetadata(message, contract)
