"""Seeds of a system's simulation, side by side in processes of their own."""

from millstream.operate.simulate.seeds import Outcome, outcomes

__all__ = ["Outcome", "outcomes"]
