"""The fuzzer's quick part: what one seed draws, and what it once found. `make fuzz` is the long one.

Each runs in a process of its own, since the memory of one is what they bound.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SEED, STREAMS = 3, 2500
FOUND = sorted((Path(__file__).parent / "regressions").glob("*.streams"))


def fuzz(*arguments: object) -> str:
    command = [sys.executable, "-m", "tests.fuzz", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_drawn_streams_are_answered_or_refused_and_nothing_else(tmp_path: Path):
    said = fuzz("--drawn", STREAMS, "--seed", SEED, "--folder", tmp_path)
    assert f"{STREAMS:,} streams" in said and "0 findings" in said


@pytest.mark.parametrize("finding", FOUND, ids=lambda path: path.stem)
def test_what_was_found_once_is_mended(finding: Path):
    assert "stood it" in fuzz("--replay", finding)
