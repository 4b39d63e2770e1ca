"""The part of a world that a simulated client needs."""

from typing import NamedTuple

from millstream.testing.simulation.cluster.broker import SimulatedBroker
from millstream.testing.simulation.cluster.network import Network
from millstream.testing.simulation.scheduler.scheduler import Scheduler


class Host(NamedTuple):
    """The surroundings of clients: time and threads, the network, and the broker at its other end."""

    scheduler: Scheduler
    network: Network
    broker: SimulatedBroker
