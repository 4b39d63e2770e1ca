"""The retailer's week while everything fails in turn, on the local broker and on a three-node Apache Kafka.

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
from tests.chaos.faults import Faults
from tests.end_to_end.running import Running
from tests.end_to_end.test_replay import ORDERS, hold_against_the_truth, needs_data

from millstream.testing.apache import ApacheKafka
from millstream.testing.postgresql import PostgreSQL

INVOICES = 894
FAULTS = int(os.environ.get("CHAOS_FAULTS", "104"))
LEAST_OF_A_KIND = 5
CONVERGED_WITHIN = 60.0
SECONDS_A_FAULT = 2.0
"""About how long a victim takes to be ready again. The replay is paced to last as long as the faults, and the faults
go on until it has sent its last invoice."""

pytestmark = [needs_data, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("options", [[], ["--scarce"]], ids=["ample", "scarce"])
def test_the_week_agrees_on_the_local_broker(tmp_path: Path, database: PostgreSQL, options: list[str]):
    with Running(tmp_path / "orders", env=settings(database)) as running:
        check_the_week(running, database, None, options)


@pytest.mark.parametrize("apache_kafka", [3], indirect=True, ids=["three-nodes"])
def test_the_week_agrees_on_apache_kafka(
    tmp_path: Path, database: PostgreSQL, apache_kafka: ApacheKafka, apache_registry: str
):
    arguments = ["--bootstrap-servers", apache_kafka.bootstrap, "--registry", apache_registry]
    with Running(tmp_path / "orders", *arguments, env=settings(database)) as running:
        check_the_week(running, database, apache_kafka, [])


def settings(database: PostgreSQL) -> dict[str, str]:
    return {"MILLSTREAM_DATABASE_URL": database.url.rpartition("/")[0] + "/{service}"}


def check_the_week(running: Running, database: PostgreSQL, apache: ApacheKafka | None, options: list[str]) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10_000)))
    chance = random.Random(seed)
    faults = Faults(running, chance, database, apache)
    rate = INVOICES / (FAULTS * SECONDS_A_FAULT)
    command = [Path(sys.executable).parent / "orders", "replay", ORDERS, "--url", running.url, "--json"]
    command += ["--rate", f"{rate:.2f}", "--timeout", "1500", *options]
    with (running.data / "replay.log").open("wb") as log:
        replay = subprocess.Popen(command, env=running.env, stdout=subprocess.PIPE, stderr=log, text=True)
    with replay:
        try:
            done = inject(faults, chance, seed, at_least=INVOICES / rate)
            last = time.monotonic()
            output, _ = replay.communicate(timeout=1500)
            settled = time.monotonic() - last
        finally:
            replay.kill()
    print(f"seed {seed}: {done.total()} faults {dict(done)}; ended {settled:.1f} s after the last")
    print(output)
    assert replay.returncode == 0, (
        f"seed {seed}\n{output}\n{(running.data / 'replay.log').read_text()}\n{running.story()}"
    )
    hold_against_the_truth(json.loads(output.splitlines()[-1]), *options)
    assert settled <= CONVERGED_WITHIN
    verified = running.run("millstream", "verify", "--json")
    print(verified.stdout)
    assert verified.returncode == 0, f"seed {seed}\n{verified.stdout}\n{verified.stderr}"


def inject(faults: Faults, chance: random.Random, seed: int, *, at_least: float) -> Counter[str]:
    """One fault after the other, each as soon as the last victim is ready again, for `at_least` seconds."""
    started = time.monotonic()
    plan = [kind for kind in faults.kinds for _ in range(LEAST_OF_A_KIND)]
    plan += chance.choices(faults.kinds, k=max(0, FAULTS - len(plan)))
    chance.shuffle(plan)
    done: Counter[str] = Counter()
    while plan or time.monotonic() - started < at_least:
        kind = plan.pop() if plan else chance.choice(faults.kinds)
        began = time.monotonic()
        faults.strike(kind)
        done[kind] += 1
        seconds = time.monotonic() - began
        print(f"seed {seed} fault {done.total()}: {kind}, ready again after {seconds:.1f} s", flush=True)
    return done
