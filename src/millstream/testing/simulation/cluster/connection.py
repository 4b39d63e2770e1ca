"""A client's connection to the broker, and what becomes of each request on it."""

from millstream.testing.simulation.cluster.broker import ConnectionLost, Link, SimulatedBroker
from millstream.testing.simulation.scheduler.incarnation import Incarnation
from millstream.testing.simulation.scheduler.tasks import Awaited


class Connection:
    """A client's connection to the broker, opened when something is asked and there is none."""

    def __init__(self, broker: SimulatedBroker, incarnation: Incarnation) -> None:
        self._broker = broker
        self._incarnation = incarnation
        self._link: Link | None = None
        incarnation.on_death.append(self.close)

    def ask(self, api_key: int, frame: bytes) -> Awaited[bytes]:
        """Send a request. Fails with `ConnectionLost` where the connection breaks before the answer."""
        awaited: Awaited[bytes] = Awaited()
        broker, record = self._broker, self._broker.scheduler.record
        if not broker.reachable:
            self._incarnation.after(0.001, lambda: awaited.fail(ConnectionLost()))
            return awaited
        if self._link is None or not self._link.open:
            self._link = Link(broker, self._incarnation)
        link = self._link
        match broker.decide_outcome(api_key) or broker.network.request_outcome():
            case "answered":
                link.ask(frame, awaited, lose_answer=False)
            case "answer lost":
                record(self._incarnation.name, "an answer is lost")
                link.ask(frame, awaited, lose_answer=True)
            case "lost":
                record(self._incarnation.name, "a connection breaks before a request")
                link.close()
                self._incarnation.after(broker.network.message_delay(), lambda: awaited.fail(ConnectionLost()))
            case "late":
                record(self._incarnation.name, "a connection breaks; its request is on the way")
                link.close()
                broker.deliver_late(frame, broker.scheduler.random.uniform(0, broker.network.faults.late_seconds))
                self._incarnation.after(broker.network.message_delay(), lambda: awaited.fail(ConnectionLost()))
            case "held":
                record(self._incarnation.name, "a connection breaks; its request is held")
                link.close()
                broker.held.append(frame)
                self._incarnation.after(broker.network.message_delay(), lambda: awaited.fail(ConnectionLost()))
        return awaited

    def close(self) -> None:
        """Break the connection, if there is one."""
        if self._link is not None:
            self._link.close()
