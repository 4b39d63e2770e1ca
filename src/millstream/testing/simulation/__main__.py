"""Runs seeds of a scenario, one after the other: `python -m millstream.testing.simulation MODULE:FUNCTION`.

Each line of standard input is a seed; each line of standard output says, as JSON, how it went. `millstream simulate`
starts one of these for each processor.
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


class Outcome(msgspec.Struct, frozen=True):
    """How one seed went. `wrong`: what was violated, or what was raised; nothing if all was right."""

    seed: int
    wrong: list[str]
    story: str
    digest: str
    seconds: float
    virtual_seconds: float


def play(scenario: Scenario, seed: int) -> Outcome:
    """The outcome of one seed."""
    began = time.perf_counter()
    with World(seed, ROUGH) as world:
        try:
            wrong = scenario(world)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        story, virtual = world.story, world.now / 1_000_000
    digest = hashlib.sha256(story.encode()).hexdigest()
    return Outcome(seed, wrong, story if wrong else "", digest, time.perf_counter() - began, virtual)


def main() -> None:
    """Reads seeds until there are no more."""
    sys.path.insert(0, "")
    # Thousands of lives end in errors, each a matter of its story and not of the log.
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    scenario: Scenario = load(sys.argv[1], object)
    # A world is short: what goes when it ends is looked for then, and not in what was there before.
    gc.disable()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.buffer.write(msgspec.json.encode(play(scenario, int(line))) + b"\n")
        sys.stdout.flush()
        gc.collect()


if __name__ == "__main__":
    main()
