"""Many seeds on all processors: each process imports the system once, and runs one seed after the other."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

import msgspec

from millstream.timeouts import SEED_TIMEOUT

RUNNER = (sys.executable, "-m", "millstream.testing.simulation")
"""Apart, because nothing that runs a service imports what tests it."""
SAVE_MEMORY = {"MALLOC_ARENA_MAX": "2"}
"""A world has hundreds of short threads, and glibc would give each memory of its own."""


class SeedResult(msgspec.Struct, frozen=True):
    """The result of one seed.

    - `violations`: what was violated, or what was raised; none if all was right.
    - `timeline`: all that happened, where something is wrong.
    - `digest`: of the timeline; the same for every run of the same code.
    - `seconds`, `virtual_seconds`: how long it took, here and in its world.
    """

    seed: int
    violations: list[str]
    timeline: str = ""
    digest: str = ""
    seconds: float = 0.0
    virtual_seconds: float = 0.0


def run_seeds(scenario: str, seeds: Iterable[int], jobs: int) -> Iterator[SeedResult]:
    """Run `seeds` of the scenario at `"module:function"`, `jobs` at a time, and yield each result as it comes."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    expected = waiting.qsize()
    found: queue.SimpleQueue[SeedResult] = queue.SimpleQueue()
    runners = [_SeedRunner(scenario, waiting, found) for _ in range(min(jobs, expected))]
    try:
        for runner in runners:
            runner.start()
        for _ in range(expected):
            yield found.get(timeout=2 * SEED_TIMEOUT)
    finally:
        for runner in runners:
            runner.stop()


class _SeedRunner(threading.Thread):
    """One process, and the thread that gives it seeds. A process that dies is replaced; its seed has failed."""

    def __init__(
        self, scenario: str, waiting: "queue.SimpleQueue[int]", found: "queue.SimpleQueue[SeedResult]"
    ) -> None:
        super().__init__(name="seed-runner", daemon=True)
        self._scenario, self._waiting, self._found = scenario, waiting, found
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        while True:
            try:
                seed = self._waiting.get_nowait()
            except queue.Empty:  # all are given out
                return
            self._found.put(self._run_seed(seed))

    def stop(self) -> None:
        """Kill the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _run_seed(self, seed: int) -> SeedResult:
        if self._process is None or self._process.poll() is not None:
            pipe, command = subprocess.PIPE, [*RUNNER, self._scenario]
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | SAVE_MEMORY)  # noqa: S603 ourselves
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(SEED_TIMEOUT, process.kill)
        late.start()
        try:
            process.stdin.write(b"%d\n" % seed)
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # its process has ended, as its missing line says
            line = b""
        finally:
            late.cancel()
        if line:
            return msgspec.json.decode(line, type=SeedResult)
        code = process.wait()
        return SeedResult(
            seed, [f"its process ended with code {code}, or took longer than {SEED_TIMEOUT:g} s; see its output"]
        )
