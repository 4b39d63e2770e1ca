"""`millstream simulate` on scenarios that are short: one that is right, wrong, late or gone as its seed says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = """
import os

from millstream import System

system = System("short", services=[], simulation="short:scenario")
bare = System("bare", services=[])


def scenario(world):
    world.sleep(1)
    world.record("somebody", f"draws {world.random.random()}")
    match world.seed:
        case 3:
            return ["two and two", "are five"]
        case 4:
            world.until(lambda: False, seconds=5, what="nothing")
        case 5:
            os._exit(9)
    return []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "short.py").write_text(SHORT)
    (tmp_path / "pyproject.toml").write_text('[tool.millstream]\nsystem = "short:system"\n')
    return tmp_path


def simulate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "millstream", "simulate", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_seeds_that_are_right_are_counted(folder: Path):
    ran = simulate(folder, "short", "--seeds", "3", "--jobs", "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("3 seeds, 0 failed, ")


def test_a_seed_that_fails_says_what_is_wrong_its_timeline_and_how_to_run_it_again(folder: Path):
    ran = simulate(folder, "--first", "3", "--seeds", "1")
    assert ran.returncode == 1
    for said in (
        "seed 3 fails:\n  two and two\n  are five\n",
        "1.000000  somebody             draws 0.",
        "again: millstream simulate short --first 3 --seeds 1 --timeline",
    ):
        assert said in ran.stdout


@pytest.mark.slow
def test_what_is_raised_and_a_process_that_ends_fail_their_seeds_alone(folder: Path):
    ran = simulate(folder, "--first", "4", "--seeds", "3", "--jobs", "1", "--json")
    assert ran.returncode == 1
    late, gone, right = json.loads(ran.stdout)["seeds"]
    assert late["violations"] == ["TimeoutError: nothing: not within 5 s"]
    assert "ended with code 9" in gone["violations"][0]
    assert right["violations"] == []


@pytest.mark.slow
def test_the_digest_is_the_same_each_time_and_another_for_each_seed(folder: Path):
    def digests() -> list[str]:
        report = json.loads(simulate(folder, "--seeds", "3", "--json").stdout)
        return [seed["digest"] for seed in report["seeds"]]

    assert digests() == digests()
    assert len(set(digests())) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shop",), "The system here is 'short', not 'shop'"),
        (("--system", "short:bare"), "bare names no simulation: System('bare'"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_line(folder: Path, arguments: tuple[str, ...], said: str):
    ran = simulate(folder, *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
