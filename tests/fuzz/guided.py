"""The long fuzzer: libFuzzer, through atheris, draws what comes next from what reached new code before."""

import os
import random
import sys
import time
from pathlib import Path
from typing import NoReturn

import atheris

with atheris.instrument_imports(include=["millstream.local.broker"]):
    from tests.fuzz.findings import Findings
    from tests.fuzz.mutation import MAX_BYTES, changed_stream, drawn_stream
    from tests.fuzz.target import complaints_are_findings

HANG_SECONDS = 120
"""When libFuzzer itself steps in, by the clock on the wall: for what never returns. A second of the processor's time is
a finding long before, and a disk that others keep busy is none."""


def fuzz(seed: int, seconds: float, folder: Path) -> NoReturn:
    """Feed streams for `seconds`, then end the process: atheris leaves no other way out."""
    (folder / "corpus").mkdir(parents=True)
    print(f"seed {seed}, {seconds:g} s; findings and inputs go to {folder}", flush=True)
    findings = Findings(folder)
    began = time.monotonic()

    def one_input(stream: bytes) -> None:
        findings.feed(stream)
        if (took := time.monotonic() - began) > seconds:
            os._exit(findings.told(f"seed {seed}, {took:,.0f} s, {findings.fed / took:,.0f}/s"))

    options = [
        f"-seed={seed}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={HANG_SECONDS}",
        "-rss_limit_mb=0",
        "-len_control=0",
    ]
    options += [f"-artifact_prefix={folder}/", "-report_slow_units=1"]
    with complaints_are_findings():
        atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], one_input, custom_mutator=_mutated)
        atheris.Fuzz()
    raise AssertionError("libFuzzer ended before its time")


def _mutated(stream: bytes, most: int, seed: int) -> bytes:
    """What libFuzzer feeds next: mostly a step from what reached new code before, now and then something new."""
    chance = random.Random(seed)
    if len(stream) < 8 or chance.random() < 0.2:
        return drawn_stream(chance)[:most]
    for _ in range(chance.choice((1, 1, 2, 4))):
        stream = changed_stream(chance, stream, lambda frame: atheris.Mutate(frame, len(frame) + 64))
    return stream[:most]
