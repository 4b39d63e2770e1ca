"""Deterministic simulation: services, the runtime and the local broker's core in one process, in virtual time.

    from millstream.testing.simulation import ROUGH, World

See `docs/simulation.md`.
"""

from millstream.testing.simulation.faults import CALM, ROUGH, Faults
from millstream.testing.simulation.lives import Crashed, Process
from millstream.testing.simulation.world import World

__all__ = ["CALM", "ROUGH", "Crashed", "Faults", "Process", "World"]
