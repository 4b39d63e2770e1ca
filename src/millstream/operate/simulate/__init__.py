"""Seeds of a system's simulation, side by side in separate processes."""

from millstream.operate.simulate.seeds import SeedResult, run_seeds

__all__ = ["SeedResult", "run_seeds"]
