"""Many seeds on all processors: each process imports the system once, and plays one seed after the other."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

import msgspec

PLAYER = (sys.executable, "-m", "millstream.testing.simulation")
"""Apart, because nothing that runs a service imports what tests it."""
FRUGAL = {"MALLOC_ARENA_MAX": "2"}
"""A world has hundreds of short threads, and glibc would give each memory of its own."""
LONGEST = 300.0
"""Real seconds that one seed may take."""


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of one seed.

    - `wrong`: what was violated, or what was raised; nothing if all was right.
    - `story`: all that happened, where something is wrong.
    - `digest`: of the story; the same for every run of the same code.
    - `seconds`, `virtual_seconds`: how long it took, here and in its world.
    """

    seed: int
    wrong: list[str]
    story: str = ""
    digest: str = ""
    seconds: float = 0.0
    virtual_seconds: float = 0.0


def outcomes(scenario: str, seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """Plays `seeds` of the scenario at `"module:function"`, `jobs` at a time, and tells of each as it ends."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    expected = waiting.qsize()
    found: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    players = [_Player(scenario, waiting, found) for _ in range(min(jobs, expected))]
    try:
        for player in players:
            player.start()
        for _ in range(expected):
            yield found.get(timeout=2 * LONGEST)
    finally:
        for player in players:
            player.stop()


class _Player(threading.Thread):
    """One process, and the thread that hands it seeds. A process that dies is replaced; its seed has failed."""

    def __init__(self, scenario: str, waiting: "queue.SimpleQueue[int]", found: "queue.SimpleQueue[Outcome]") -> None:
        super().__init__(name="player", daemon=True)
        self._scenario, self._waiting, self._found = scenario, waiting, found
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        while True:
            try:
                seed = self._waiting.get_nowait()
            except queue.Empty:  # all are given out
                return
            self._found.put(self._play(seed))

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _play(self, seed: int) -> Outcome:
        if self._process is None or self._process.poll() is not None:
            pipe, command = subprocess.PIPE, [*PLAYER, self._scenario]
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=os.environ | FRUGAL)  # noqa: S603 ourselves
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(LONGEST, process.kill)
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
            return msgspec.json.decode(line, type=Outcome)
        code = process.wait()
        return Outcome(
            seed, [f"its process ended with code {code}, or took longer than {LONGEST:g} s; see what it said"]
        )
