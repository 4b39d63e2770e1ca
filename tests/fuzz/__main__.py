"""`python -m tests.fuzz`: hostile bytes for the broker, guided by the code they reach (`make fuzz`).

Ends with 0 when nothing was found, with 1 and a file for each finding else. `--replay FILE` feeds a finding again.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import atheris

with atheris.instrument_imports(include=["millstream.local.broker"]):
    from tests.fuzz.findings import Findings, read, replay
    from tests.fuzz.mutation import MOST_BYTES, changed_stream, drawn_stream
    from tests.fuzz.target import complaints_are_findings

HANG_SECONDS = 30
"""When libFuzzer itself steps in: Python code that takes a second is a finding long before."""


def main() -> None:
    arguments = _parse()
    if arguments.replay is not None:
        replay(read(arguments.replay))
        print("the broker stood it")
        return
    seed = random.randrange(1, 1 << 31) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="millstream-fuzz-"))
    (folder / "corpus").mkdir()
    print(f"seed {seed}, {arguments.seconds:g} s; findings and inputs go to {folder}", flush=True)
    findings = Findings(folder)
    began = time.monotonic()

    def one_input(stream: bytes) -> None:
        findings.feed(stream)
        if time.monotonic() - began > arguments.seconds:
            _end(findings, seed, time.monotonic() - began)

    options = [
        f"-seed={seed}",
        f"-max_len={MOST_BYTES}",
        f"-timeout={HANG_SECONDS}",
        "-rss_limit_mb=0",
        "-len_control=0",
    ]
    options += [f"-artifact_prefix={folder}/", "-report_slow_units=1"]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], one_input, custom_mutator=_mutated)
    atheris.Fuzz()


def _mutated(stream: bytes, most: int, seed: int) -> bytes:
    """What libFuzzer feeds next: mostly a step from what reached new code before, now and then something new."""
    chance = random.Random(seed)
    if len(stream) < 8 or chance.random() < 0.2:
        return drawn_stream(chance)[:most]
    for _ in range(chance.choice((1, 1, 2, 4))):
        stream = changed_stream(chance, stream, lambda frame: atheris.Mutate(frame, len(frame) + 64))
    return stream[:most]


def _end(findings: Findings, seed: int, seconds: float) -> NoReturn:
    rate = findings.fed / seconds
    print(
        f"seed {seed}: {findings.fed:,} streams in {seconds:,.0f} s ({rate:,.0f}/s), "
        f"at most {findings.megabytes} MB, {len(findings.places)} findings",
        flush=True,
    )
    for place, path in findings.places.items():
        print(f"  {place}: {path}", flush=True)
    os._exit(1 if findings.places else 0)  # atheris leaves no other way out


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, help="of the mutations; drawn and printed when it is not given")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed a finding again instead")
    return parser.parse_args()


if __name__ == "__main__":
    with complaints_are_findings():
        main()
