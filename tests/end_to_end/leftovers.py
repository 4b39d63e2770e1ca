"""What must not be left after a run in which everything failed in turn: dead letters, parked keys, dead sockets."""

import json
import re
from pathlib import Path

import httpx
from tests.end_to_end.running import Running, eventually

CLOSE_WAIT = "08"
"""The state of a socket whose other side has hung up, in /proc/net/tcp."""
PARKED = re.compile(r"^millstream_parked_events\{[^}]*\} (\S+)$", re.MULTILINE)


def hold_that_nothing_is_left(running: Running, *, within: float = 120.0) -> None:
    """No event waits or was set aside, no process keeps a dead connection, and the books agree."""
    eventually(lambda: not parked(running), within=within, every=0.5)
    assert dead_letters(running) == []
    eventually(lambda: not half_closed(running), within=within, every=0.5)
    verified = running.run("millstream", "verify", "--json", timeout=600)
    assert verified.returncode == 0, f"{verified.stdout}\n{verified.stderr}"


def dead_letters(running: Running) -> list[dict[str, object]]:
    """All there are, open or not."""
    listed = running.run("millstream", "dlq", "list", "--state", "all", "--json", timeout=120)
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def parked(running: Running) -> dict[str, float]:
    """Events that are parked now, by process."""
    found: dict[str, float] = {}
    for name, process in running.state["processes"].items():
        if process["pid"] and process.get("url"):
            answer = httpx.get(f"{process['url']}/metrics", timeout=5)
            found[name] = sum(map(float, PARKED.findall(answer.text)))
    return {name: count for name, count in found.items() if count}


def half_closed(running: Running) -> dict[str, int]:
    """Sockets in CLOSE-WAIT, by process."""
    states = _states()
    found: dict[str, int] = {}
    for name, pid in running.pids().items():
        found[name] = sum(states.get(inode) == CLOSE_WAIT for inode in _sockets(pid))
    return {name: count for name, count in found.items() if count}


def _states() -> dict[str, str]:
    rows = [line.split() for file in ("tcp", "tcp6") for line in _lines(Path("/proc/net", file))[1:]]
    return {row[9]: row[3] for row in rows}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _sockets(pid: int) -> list[str]:
    """The inodes of a process's sockets."""
    inodes: list[str] = []
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.append(target[8:-1])
    except FileNotFoundError:
        pass  # a process, or a file of it, that is gone by now
    return inodes
