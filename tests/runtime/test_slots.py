"""A slot has one holder; it is free the moment that one dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.errors import SlotTaken
from millstream.runtime.slots import Slot
from millstream.settings import Settings

HOLDER = """
import sys, time
from pathlib import Path
from millstream.runtime.slots import Slot
from millstream.settings import Settings
with Slot("payment", Settings(data_dir=Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(data: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_waits_and_then_names_the_first(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    with hold(tmp_path) as first:
        try:
            with (
                pytest.raises(SlotTaken, match=rf"payment-0 is held by process {first.pid} since .*MILLSTREAM_SLOT"),
                Slot("payment", settings, timeout=0.2),
            ):
                pass
            with Slot("payment", settings.model_copy(update={"slot": 1}), timeout=0):
                pass
            with Slot("shipping", settings, timeout=0):
                pass
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.wait(10)
    with Slot("payment", settings, timeout=5):
        pass


def test_a_slot_that_was_let_go_can_be_taken_again(tmp_path: Path):
    for _ in range(2):
        with Slot("payment", Settings(data_dir=tmp_path), timeout=0):
            pass
