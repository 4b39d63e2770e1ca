"""Deterministic simulation: services, the runtime and the local broker's core in one process, in virtual time.

    from millstream.testing.simulation import ROUGH, World

See `docs/simulation.md`.
"""

from millstream.testing.simulation.cluster.broker import SimulatedBroker
from millstream.testing.simulation.cluster.faults import CALM, ROUGH, Faults, RequestOutcome
from millstream.testing.simulation.cluster.registry import SimulatedRegistry
from millstream.testing.simulation.scheduler.incarnation import Crashed, Incarnation
from millstream.testing.simulation.scheduler.process import Process
from millstream.testing.simulation.world.services import Services
from millstream.testing.simulation.world.world import World

__all__ = [
    "CALM",
    "ROUGH",
    "Crashed",
    "Faults",
    "Incarnation",
    "Process",
    "RequestOutcome",
    "Services",
    "SimulatedBroker",
    "SimulatedRegistry",
    "World",
]
