"""kill -9 in the middle of handing letters in, and started again: nothing twice, nothing left out."""

import signal
import sys
from collections import Counter
from pathlib import Path
from subprocess import Popen

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.testing.child import end, last_lines, spawn, wait_until

LETTERS = 120


def child(rig: LettersRig, output: Path, *arguments: str) -> Popen[bytes]:
    script = (
        f"import os, sys; os.environ.update({rig.env!r}); os.chdir({str(rig.folder)!r}); "
        f"sys.argv = ['millstream', 'dlq', *{list(arguments)!r}]; "
        "from millstream.operate.cli import main; main()"
    )
    return spawn([sys.executable, "-c", script], output=output)


@pytest.fixture
def many(rig: LettersRig) -> LettersRig:
    rig.set_aside(*rig.send(*(rig.module.Ordered(order_id=f"o-{n}") for n in range(LETTERS))))
    return rig


def assert_each_once(rig: LettersRig) -> None:
    handed = Counter(redrive.at for redrive in rig.handed_in())
    deeds = Counter(tuple(deed["origin"]) for deed in rig.deeds())
    assert handed == deeds
    assert len(handed) == LETTERS
    assert set(handed.values()) == {1}


def test_a_bulk_redrive(many: LettersRig, tmp_path: Path):
    output = tmp_path / "output.log"
    kills = 0
    for goal in (10, 40, 70):
        # Small transactions, so that the kill falls between or into one of many.
        process = child(many, output, "redrive", "--all", "--rate", "40/s")
        wait_until(lambda goal=goal: len(many.handed_in()) >= goal, seconds=30, what=f"{goal} letters handed in")
        kills += process.poll() is None
        end(process, how=signal.SIGKILL)
        assert len(many.handed_in()) < LETTERS
    assert kills == 3, last_lines(output)
    process = child(many, output, "redrive", "--all")
    assert process.wait(40) == 0, last_lines(output)
    assert_each_once(many)


def test_the_service_that_redrives_by_rule(many: LettersRig, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "all"\nreason = "*"\nrate = "30/s"\n')
    output = tmp_path / "output.log"
    for goal in (10, 50):
        process = child(many, output, "serve", "--rules", str(rules))
        wait_until(lambda goal=goal: len(many.handed_in()) >= goal, seconds=40, what=f"{goal} letters handed in")
        assert process.poll() is None, last_lines(output)
        end(process, how=signal.SIGKILL)
        assert len(many.handed_in()) < LETTERS
    process = child(many, output, "serve", "--rules", str(rules))
    wait_until(lambda: len(many.handed_in()) >= LETTERS, seconds=60, what="the rest")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, last_lines(output)
    assert_each_once(many)
