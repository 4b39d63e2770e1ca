"""The order system in worlds where everything fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def simulated(*arguments: str, **environment: str) -> dict[str, Any]:
    """What `millstream simulate` reports."""
    ran = subprocess.run(
        [Path(sys.executable).parent / "millstream", "simulate", "orders", "--json", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        timeout=7_200,
    )
    report = json.loads(ran.stdout)
    assert ran.returncode == any(seed["violations"] for seed in report["seeds"])
    return report


def test_the_same_seed_makes_the_same_timeline_in_any_process():
    def digest(hash_seed: str) -> str:
        (result,) = simulated("--first", "7", "--seeds", "1", PYTHONHASHSEED=hash_seed)["seeds"]
        return result["digest"]

    assert digest("1") == digest("2")


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_two_thousand_seeds():
    report = simulated("--seeds", "2000")
    assert [seed for seed in report["seeds"] if seed["violations"]] == []
