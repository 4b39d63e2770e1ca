"""Runs seeds of a scenario, one after the other: `python -m millstream.testing.simulation MODULE:FUNCTION`.

Each line of standard input is a seed; each line of standard output is its result, as JSON. `millstream simulate` starts
one of these for each processor.
"""

import gc
import hashlib
import logging
import sys
import time
from collections.abc import Callable

import msgspec
import structlog

from millstream.declare import load
from millstream.testing.simulation import ROUGH, World

Scenario = Callable[[World], list[str]]


class SeedResult(msgspec.Struct, frozen=True):
    """The result of one seed. `violations`: what was violated, or what was raised; none if all was right."""

    seed: int
    violations: list[str]
    timeline: str
    digest: str
    seconds: float
    virtual_seconds: float


def run(scenario: Scenario, seed: int) -> SeedResult:
    """Run a scenario in a world of this seed."""
    began = time.perf_counter()
    with World(seed, ROUGH) as world:
        try:
            violations = scenario(world)
        except Exception as error:
            violations = [f"{type(error).__name__}: {error}"]
        timeline, virtual = world.timeline, world.now / 1_000_000
    digest = hashlib.sha256(timeline.encode()).hexdigest()
    return SeedResult(seed, violations, timeline if violations else "", digest, time.perf_counter() - began, virtual)


def main() -> None:
    """Run seeds until there are no more."""
    sys.path.insert(0, "")
    # Thousands of incarnations end in errors, each a matter of its timeline and not of the log.
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    scenario: Scenario = load(sys.argv[1], object)
    # A world is short: garbage is looked for when it ends, and not among what was there before.
    gc.disable()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.buffer.write(msgspec.json.encode(run(scenario, int(line))) + b"\n")
        sys.stdout.flush()
        gc.collect()


if __name__ == "__main__":
    main()
