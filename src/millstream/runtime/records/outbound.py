"""From what a handler returns to records."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from millstream.contracts.catalogue import Contracts
from millstream.contracts.ids import derived_id
from millstream.declare import Contract, Service
from millstream.errors import DeclarationError
from millstream.kafka.limits import RecordLimits
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.route import ProducerRoute

Outputs: TypeAlias = Contract | Iterable[Contract] | None
"""The outputs that a synchronous handler may return; a generator too."""


class Outbound:
    """Encodes the outputs of a service's handlers, with the headers that tie them to what they came from.

    Ids are made of the input's id, the handler (`service.handler`) and the output's ordinal: an event that is handled
    again makes the same events again.

    - `max_bytes`: how large a record may be.
    """

    def __init__(self, service: Service, contracts: Contracts, max_bytes: int) -> None:
        self._service = service.name
        routes = {
            contract: ProducerRoute(contract, service.name, contracts, max_bytes) for contract in service.produced()
        }
        self._handlers = {
            handler.name: (
                f"{service.name}.{handler.name}",
                dict[type, ProducerRoute]({contract: routes[contract] for contract in handler.produces}),
            )
            for handler in service.handlers
        }

    def keep_to(self, limits: RecordLimits) -> None:
        """Make no record that its topic does not take."""
        for _, routes in self._handlers.values():
            for route in routes.values():
                route.keep_to(limits)

    def records(self, handler: str, meta: EventMetadata, outputs: Outputs) -> list[Record]:
        """Return the records of what `handler` returned for the event that `meta` describes.

        Raises whatever a generator raises, `EncodeError` for an event that does not fit its schema, and
        `DeclarationError` for one that the handler does not declare.
        """
        maker, routes = self._handlers[handler]
        if (route := routes.get(type(outputs))) is not None:
            return [_record(route, outputs, 0, maker, meta)]
        if outputs is None:
            return []
        records: list[Record] = []
        for ordinal, output in enumerate((outputs,) if isinstance(outputs, Contract) else outputs):
            if (route := routes.get(type(output))) is None:
                raise DeclarationError(self._undeclared(handler, output))
            records.append(_record(route, output, ordinal, maker, meta))
        return records

    def _undeclared(self, handler: str, output: Any) -> str:
        declared = ", ".join(contract.__name__ for contract in self._handlers[handler][1]) or "nothing"
        return (
            f"{self._service}: {handler} returned {type(output).__name__}, but declares {declared}. "
            "Add it to the return annotation, or to publishes="
        )


def _record(route: ProducerRoute, output: Any, ordinal: int, maker: str, meta: EventMetadata) -> Record:
    headers = route.headers(derived_id(meta.identity, maker, ordinal), meta.correlation_id, meta.id, meta.traceparent)
    return route.topic, route.key(output).encode(), route.value(route.encode(output), headers), headers
