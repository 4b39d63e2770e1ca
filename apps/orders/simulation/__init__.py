"""The order system in a world where everything fails: its scenario, and what stands in for the world outside.

`millstream simulate orders` runs it, seed after seed; see `docs/simulation.md`.
"""

from orders.simulation.scenario import scenario

__all__ = ["scenario"]
