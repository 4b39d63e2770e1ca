"""Children of tests, and whom they outlive."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from millstream.testing.child import end, spawn, wait_until

ASLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_children_die_with_killed_tests(tmp_path: Path):
    tests = f"""
        import time
        from pathlib import Path
        from millstream.testing.child import spawn
        print(spawn({ASLEEP!r}, output=Path({str(tmp_path / "output")!r})).pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(tests)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not gone(child)
        process.kill()
    wait_until(lambda: gone(child), seconds=60, what="the child died with its parent")


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path):
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(spawn(ASLEEP, output=tmp_path / "output")))
    thread.start()
    thread.join(10)
    (child,) = started
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
    finally:
        end(child)


def gone(pid: int) -> bool:
    """Whether there is no such process, or only its remains that init has not taken yet."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True
