"""Three exactly-once workers and the broker die by kill -9 at random; every number arrives once and in order.

`make torture` runs the long one. The seed is printed; TORTURE_SEED and TORTURE_SECONDS repeat or shorten a run.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.torture.readers import PARTITIONS, Reader, Source, forget_agreed
from tests.torture.worker import QUICK, SOURCE, TARGET

from millstream.testing.child import end, spawn, wait_until
from millstream.testing.local import LocalKafka

WORKERS = 3
RATE = 1000.0
SETTLED_WITHIN_SECONDS = 90.0
SEED = int(os.environ.get("TORTURE_SEED", random.randrange(10_000)))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
PROGRESS_SECONDS = 10.0


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 240)
def test_nothing_is_lost_doubled_or_seen_before_its_time_under_kill_9(tmp_path: Path):
    hold(tmp_path, SEED, SECONDS)


@pytest.mark.real
@pytest.mark.timeout(180)
@pytest.mark.scenario(3)
def test_a_short_torture_loses_and_doubles_nothing(tmp_path: Path):
    hold(tmp_path, SEED, 20)


def hold(folder: Path, seed: int, seconds: float) -> None:
    with LocalKafka(folder / "kafka") as kafka:
        topics = [NewTopic(topic, PARTITIONS) for topic in (SOURCE, TARGET)]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, **QUICK})
        for created in admin.create_topics(topics).values():
            created.result(10)
        source = Source(kafka.bootstrap, RATE)
        inputs = Reader(kafka.bootstrap, SOURCE, "read_uncommitted")
        committed = Reader(kafka.bootstrap, TARGET, "read_committed")
        uncommitted = Reader(kafka.bootstrap, TARGET, "read_uncommitted")
        threads = (source, inputs, committed, uncommitted)
        for thread in threads:
            thread.start()
        differing, kills = 0, Counter[str]()
        with Workers(kafka.bootstrap, folder, seed) as workers:
            began = shown = time.monotonic()
            for kills in killing(kafka, workers, random.Random(seed), until=began + seconds):
                if time.monotonic() - shown > PROGRESS_SECONDS:
                    shown = time.monotonic()
                    differing += forget_agreed(committed, uncommitted)
                    print(f"seed {seed}, {shown - began:.0f} s: {_summary(source, kills, committed)}", flush=True)
            source.finish(SETTLED_WITHIN_SECONDS)
            wait_until(
                lambda: committed.numbers == inputs.numbers == source.sent,
                seconds=SETTLED_WITHIN_SECONDS,
                what=f"seed {seed}: every number arrived; {folder / 'workers.log'} may say why not",
            )
        for reader in (inputs, committed, uncommitted):
            reader.finish()
    differing += forget_agreed(committed, uncommitted)
    print(f"seed {seed}: {_summary(source, kills, committed)}, {uncommitted.counts['aborted']} aborted in the log")
    assert not source.failures, source.failures
    for reader in (inputs, committed):
        assert not +Counter({k: v for k, v in reader.counts.items() if not k.startswith("error")}), reader.counts
    assert uncommitted.counts["aborted"] > 0, "no transaction was aborted: this was no test"
    assert not uncommitted.counts["out of order"] and not differing


def killing(kafka: LocalKafka, workers: "Workers", chance: random.Random, until: float) -> Iterator[Counter[str]]:
    """One kill after the other, each victim started again at once; what has been killed so far."""
    kills: Counter[str] = Counter()
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.2, 3.0))
        victim = chance.randrange(WORKERS + 2)
        if victim < WORKERS:
            workers.kill(victim)
            workers.start(victim)
            kills["worker"] += 1
        else:
            kafka.kill()
            kafka.restart()
            kills["broker"] += 1
        yield kills


class Workers:
    """The processes; all are ended with the `with`."""

    def __init__(self, bootstrap: str, folder: Path, seed: int) -> None:
        self._bootstrap = bootstrap
        self._output = folder / "workers.log"
        self._seed = seed
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int) -> None:
        self._seed += 1
        name = [self._bootstrap, f"worker-{number}", str(self._seed)]
        self._processes[number] = spawn([sys.executable, "-m", "tests.torture.worker", *name], output=self._output)

    def kill(self, number: int) -> None:
        end(self._processes.pop(number), how=signal.SIGKILL)

    def __enter__(self) -> "Workers":
        for number in range(WORKERS):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._processes):
            self.kill(number)


def _summary(source: Source, kills: Counter[str], committed: Reader) -> str:
    counts = committed.counts
    return (
        f"{sum(source.sent):,} inputs, {sum(committed.numbers):,} arrived, {kills.total()} kills {dict(kills)}, "
        f"{counts['lost']} lost, {counts['duplicated']} duplicated, {counts['aborted']} aborted seen"
    )
