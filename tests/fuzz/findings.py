"""What the fuzzer found: kept as files, made small, fed again."""

import random
import tempfile
import traceback
from pathlib import Path

from tests.fuzz.mutation import drawn_stream, frames_of, stream_of
from tests.fuzz.target import Finding, Target


class Findings:
    """Feeds streams and keeps, in `folder`, one file for each place that failed; goes on with a new broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, Path] = {}
        self.fed = self.megabytes = 0
        self._new_target()

    def feed(self, stream: bytes) -> None:
        self.fed += 1
        if self.fed % 100 == 0:
            self.megabytes = max(self.megabytes, self._target.megabytes)
        try:
            self._target.feed(stream)
        except Exception as error:
            if (place := place_of(error)) not in self.places:
                self._keep(place, error)
            self._new_target()

    def _keep(self, place: str, error: Exception) -> None:
        streams = self._target.streams
        if place.startswith("slow") and not _fails(streams, place):
            # The machine was, or the collector of this process went through all that libFuzzer holds.
            print(f"after {self.fed:,}: {error}, and not when it was fed again", flush=True)
            return
        self.places[place] = path = self.folder / f"finding-{len(self.places)}.streams"
        path.write_bytes(stream_of(smallest(streams, place)))
        print(f"found after {self.fed:,}: {place}: {error}; kept in {path}", flush=True)

    def told(self, how: str) -> int:
        """Print what `how` led to. 1 if something was found, else 0: what the process ends with."""
        print(f"{how}: {self.fed:,} streams, at most {self.megabytes} MB, {len(self.places)} findings", flush=True)
        for place, path in self.places.items():
            print(f"  {place}: {path}", flush=True)
        return 1 if self.places else 0

    def _new_target(self) -> None:
        self._target = Target(Path(tempfile.mkdtemp(prefix="broker-", dir=self.folder)))


def place_of(error: BaseException) -> str:
    """Where an exception came from: two of one place are one finding."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = str(error).partition(":")[0] if isinstance(error, Finding) else type(error).__name__
    return f"{what} at {Path(last.filename).name}:{last.lineno}"


def replay(streams: list[bytes]) -> None:
    """Feed the streams to a new broker, then let it die and come back. Raises what they lead to."""
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder))
        for stream in streams:
            target.feed(stream)
        target.check()
        target.reopen()


def read(path: Path) -> list[bytes]:
    """The streams of a finding."""
    return frames_of(path.read_bytes())


def smallest(streams: list[bytes], place: str) -> list[bytes]:
    """As few of the streams as still fail in that place, as far as leaving out parts of them shows."""
    kept, part = list(streams), max(len(streams) // 2, 1)
    if not _fails(kept, place):
        return kept
    while True:
        at = len(kept) - part
        while at > -part:
            fewer = kept[: max(at, 0)] + kept[at + part :]
            kept = fewer if fewer and _fails(fewer, place) else kept
            at -= part
        if part == 1:
            return kept
        part //= 2


def _fails(streams: list[bytes], place: str) -> bool:
    try:
        replay(streams)
    except Exception as error:
        return place_of(error) == place
    return False


def feed_drawn(findings: Findings, seed: int, count: int) -> None:
    """Feed `count` streams that the seed draws; nothing guides them."""
    chance = random.Random(seed)
    for _ in range(count):
        findings.feed(drawn_stream(chance))
