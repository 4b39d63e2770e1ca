"""Child processes that a test owns: started, waited for with a bound, and never left behind."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from millstream.operate.last_will import die_with


class StartFailed(AssertionError):
    """A server that a test needs did not get ready; the message ends with the last lines of its output."""


def wait_until(ready: Callable[[], bool], *, seconds: float, what: str, every: float = 0.02) -> None:
    """Return once `ready()` is true; raise TimeoutError naming `what` when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


def spawn(command: list[str], *, output: Path, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own; what it says (but a piped `stdout`) is appended to `output`.

    The kernel kills it when the tests are killed: a cluster that they leave behind would stay for ever.
    """
    with output.open("ab") as said:
        return subprocess.Popen(  # noqa: S603 (the command is ours)
            command,
            stdin=subprocess.DEVNULL,
            stdout=said if stdout is None else stdout,
            stderr=said,
            start_new_session=True,
            preexec_fn=with_tests(),
        )


def with_tests() -> Callable[[], None] | None:
    """`die_with` this process; None in any thread but the main one, since the child would end with that thread."""
    return die_with(os.getpid()) if threading.current_thread() is threading.main_thread() else None


def first_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The first line that the process prints; empty if it ends or `seconds` pass before."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096) if readable else b""
        if not chunk:
            return b""
        line += chunk
    return line


def end(process: subprocess.Popen[bytes], *, how: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
    """Signal the process, wait for its end, and kill it and its children when it takes longer than `seconds`."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # it is gone already
            process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed below
            process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):  # it is gone already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(seconds)
    if process.stdout:
        process.stdout.close()


def last_lines(output: Path, count: int = 15) -> str:
    """The end of what a process said, for an error message."""
    if not output.exists():
        return "(no output)"
    return "\n".join(output.read_text(errors="replace").splitlines()[-count:])
