"""Week after week of the retailer on one system, under all faults and pauses of every process that outlast its calls.

Run it with `make weeks`. CHAOS_WEEKS says how many, CHAOS_SEED repeats a run, CHAOS_ORDERS names another file than the
sample week, such as the whole year's, of which CHAOS_INVOICES takes the first ones alone.
"""

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.chaos.faults import LONG_PAUSE, Faults
from tests.chaos.test_orders_under_faults import SECONDS_A_FAULT, settings
from tests.end_to_end.leftovers import half_closed, hold_that_nothing_is_left
from tests.end_to_end.running import Running
from tests.end_to_end.test_replay import ORDERS, hold_against_the_truth

from millstream.testing.apache import ApacheKafka
from millstream.testing.postgresql import PostgreSQL
from orders.replay.invoices import InvoiceFile

WEEKS = int(os.environ.get("CHAOS_WEEKS", "10"))
INVOICES = int(os.environ.get("CHAOS_INVOICES", "0"))
FILE = Path(os.environ.get("CHAOS_ORDERS", str(ORDERS)))
A_WEEK_WITHIN = 1800
WHOLE_WEEK = FILE == ORDERS and not INVOICES

pytestmark = [
    pytest.mark.skipif(not FILE.exists(), reason=f"the retailer's week is not at {FILE}"),
    pytest.mark.long,
    pytest.mark.timeout((WEEKS + 1) * A_WEEK_WITHIN),
]


def test_weeks_leave_nothing_behind_on_the_local_broker(tmp_path: Path, database: PostgreSQL):
    with Running(tmp_path / "orders", env=settings(database)) as running:
        check_weeks(running, database, None, tmp_path)


@pytest.mark.parametrize("apache_kafka", [3], indirect=True, ids=["three-nodes"])
def test_weeks_leave_nothing_behind_on_apache_kafka(
    tmp_path: Path, database: PostgreSQL, apache_kafka: ApacheKafka, apache_registry: str
):
    arguments = ["--bootstrap-servers", apache_kafka.bootstrap, "--registry", apache_registry]
    with Running(tmp_path / "orders", *arguments, env=settings(database)) as running:
        check_weeks(running, database, apache_kafka, tmp_path)


def check_weeks(running: Running, database: PostgreSQL, apache: ApacheKafka | None, folder: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10_000)))
    print(f"seed {seed}: {WEEKS} weeks")
    chance = random.Random(seed)
    faults = Faults(running, chance, database, apache, pauses=True)
    invoices = first_invoices(FILE, INVOICES, folder / "invoices.csv") if INVOICES else FILE
    for week in range(1, WEEKS + 1):
        outcome = replay_under(faults, running, invoices, chance, f"seed {seed} week {week}")
        assert outcome["open"] == 0
        if WHOLE_WEEK:
            hold_against_the_truth(outcome)
        print(f"seed {seed} week {week}: {outcome}; half closed for now: {half_closed(running)}", flush=True)
    hold_that_nothing_is_left(running)


def replay_under(faults: Faults, running: Running, invoices: Path, chance: random.Random, at: str) -> dict[str, object]:
    """Replays all invoices, at such a rate that they last for a round of all faults; then lets everything settle."""
    lasts = sum(LONG_PAUSE + SECONDS_A_FAULT if "pause" in kind else SECONDS_A_FAULT for kind in faults.kinds)
    rate = sum(1 for _ in InvoiceFile(invoices)) / lasts
    command = [Path(sys.executable).parent / "orders", "replay", str(invoices), "--url", running.url, "--json"]
    command += ["--rate", f"{rate:.3f}", "--timeout", str(A_WEEK_WITHIN)]
    log = running.data / "replay.log"
    with log.open("wb") as errors:
        replay = subprocess.Popen(command, env=running.env, stdout=subprocess.PIPE, stderr=errors, text=True)
    with replay:
        try:
            done = strike(faults, chance, at, at_least=lasts)
            output, _ = replay.communicate(timeout=A_WEEK_WITHIN)
        finally:
            replay.kill()
    assert replay.returncode == 0, f"{at}: {dict(done)}\n{output}\n{log.read_text()}\n{running.story()}"
    return json.loads(output.splitlines()[-1])


def strike(faults: Faults, chance: random.Random, at: str, *, at_least: float) -> Counter[str]:
    """One fault after the other: every kind once, and then any for as long as invoices are sent."""
    started = time.monotonic()
    plan = chance.sample(faults.kinds, len(faults.kinds))
    done: Counter[str] = Counter()
    while plan or time.monotonic() - started < at_least:
        kind = plan.pop() if plan else chance.choice(faults.kinds)
        print(f"{at} fault {done.total() + 1}: {kind}", flush=True)
        faults.strike(kind)
        done[kind] += 1
    return done


def first_invoices(source: Path, count: int, target: Path) -> Path:
    """A file with the rows of the first `count` invoices of `source`."""
    raw = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    rows = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
    numbers: set[str] = set()
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows.fieldnames or ())
        writer.writeheader()
        for row in rows:
            if len(numbers) < count or row["InvoiceNo"] in numbers:
                numbers.add(row["InvoiceNo"])
                writer.writerow(row)
    return target
