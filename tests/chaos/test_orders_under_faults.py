"""The retailer's week while processes die: kill -9 of any service, the gateway or the local broker, in turn.

Run it with `make chaos`. The seed is printed; CHAOS_SEED and CHAOS_FAULTS repeat or lengthen a run.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.end_to_end.running import Running
from tests.end_to_end.test_replay import ORDERS, hold_against_the_truth, needs_data

INVOICES = 894
FAULTS = int(os.environ.get("CHAOS_FAULTS", "64"))
LEAST_OF_A_KIND = 5
CONVERGED_WITHIN = 60.0
VICTIMS = ("order", "inventory", "payment", "shipping", "email", "read-model", "gateway", "platform")
SECONDS_A_FAULT = 1.5
"""About how long a victim takes to be ready again. The replay is paced to last as long as the faults, and the faults
go on until it has sent its last invoice."""


@needs_data
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("options", [[], ["--scarce"]], ids=["ample", "scarce"])
def test_the_week_agrees_under_kill_9(fresh: Running, options: list[str]):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10_000)))
    chance = random.Random(seed)
    rate = INVOICES / (FAULTS * SECONDS_A_FAULT)
    command = [Path(sys.executable).parent / "orders", "replay", ORDERS, "--url", fresh.url, "--json"]
    command += ["--rate", f"{rate:.2f}", "--timeout", "600", *options]
    with (fresh.data / "replay.log").open("wb") as log:
        replay = subprocess.Popen(command, env=fresh.env, stdout=subprocess.PIPE, stderr=log, text=True)
    with replay:
        try:
            faults = inject(fresh, chance, seed, at_least=INVOICES / rate)
            last = time.monotonic()
            output, _ = replay.communicate(timeout=600)
            settled = time.monotonic() - last
        finally:
            replay.kill()
    print(f"seed {seed}: {faults.total()} faults {dict(faults)}; ended {settled:.1f} s after the last")
    print(output)
    assert replay.returncode == 0, f"seed {seed}\n{output}\n{(fresh.data / 'replay.log').read_text()}\n{fresh.story()}"
    hold_against_the_truth(json.loads(output.splitlines()[-1]), *options)
    assert settled <= CONVERGED_WITHIN


def inject(running: Running, chance: random.Random, seed: int, *, at_least: float) -> Counter[str]:
    """Kills one process after the other, each as soon as the last one is ready again, for `at_least` seconds."""
    started = time.monotonic()
    plan = [victim for victim in VICTIMS for _ in range(LEAST_OF_A_KIND)]
    plan += chance.choices(VICTIMS, k=max(0, FAULTS - len(plan)))
    chance.shuffle(plan)
    done: Counter[str] = Counter()
    while plan or time.monotonic() - started < at_least:
        victim = plan.pop() if plan else chance.choice(VICTIMS)
        began = time.monotonic()
        place = running.kill(victim)
        running.await_event("ready", victim, place, within=30)
        done[victim] += 1
        seconds = time.monotonic() - began
        print(f"seed {seed} fault {done.total()}: {victim} ready again after {seconds:.1f} s", flush=True)
    return done
