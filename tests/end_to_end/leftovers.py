"""What must not be left after a run in which everything failed in turn: dead letters, parked keys, dead sockets."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from tests.end_to_end.running import Running, eventually

CLOSE_WAIT = "08"
"""The state of a socket whose other side has hung up, in /proc/net/tcp."""
PARKED = re.compile(r"^millstream_parked_events\{[^}]*\} (\S+)$", re.MULTILINE)


def hold_that_nothing_is_left(running: Running, *, within: float = 120.0) -> None:
    """No event waits or was set aside, no process keeps a dead connection, and the books agree."""
    eventually(lambda: not parked(running), within=within, every=0.5)
    assert dead_letters(running) == []
    left: dict[str, list[str]] = {}

    def closed() -> bool:
        left.clear()
        left.update(half_closed(running))
        return not left

    try:
        eventually(closed, within=within, every=0.5)
    except AssertionError:
        raise AssertionError(f"sockets in CLOSE-WAIT: {left}\n{running.story()}") from None
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


def half_closed(running: Running) -> dict[str, list[str]]:
    """The far ends of sockets in CLOSE-WAIT, by process: that of a process of this system by name."""
    names = {urlsplit(process["url"]).port: name for name, process in running.state["processes"].items()}
    found: dict[str, list[str]] = {}
    for name, pid in running.pids().items():
        if ports := half_closed_by(pid):
            found[name] = [names.get(port, f"port {port}") for port in ports]
    return found


def half_closed_by(pid: int) -> list[int]:
    """The ports of the other sides of a process's sockets in CLOSE-WAIT."""
    far_ends = _close_waits()
    return [far_ends[inode] for inode in _sockets(pid) if inode in far_ends]


def _close_waits() -> dict[str, int]:
    """The port of the other side, by the inode of each socket in CLOSE-WAIT."""
    rows = [line.split() for file in ("tcp", "tcp6") for line in _lines(Path("/proc/net", file))[1:]]
    return {row[9]: int(row[2].rpartition(":")[2], 16) for row in rows if row[3] == CLOSE_WAIT}


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
