"""`millstream up` as a process of its own, whose children are killed."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream import System
from millstream.errors import ConfigurationError
from millstream.operate.cli.screen import screen_for, where
from millstream.operate.supervisor import Event
from millstream.operate.up import Up
from millstream.testing.child import end, wait_until, with_tests


class Running:
    """An `up --json`, and its events as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", "from millstream.operate.cli import main; main()", "up", "--json"]
        command += ["--port", "0", "--kafka-port", "0", "--registry-port", "0", *arguments]
        with (folder / "up.err").open("wb") as said:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=said,
                start_new_session=True,
                preexec_fn=with_tests(),
            )
        self._folder = folder
        self._unread = b""

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self._folder / ".millstream" / "up.json").read_text())

    def until(self, event: str, name: str = "", seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            told = json.loads(self._line(deadline))
            if (told["event"], told.get("name", "")) == (event, name):
                return told

    def _line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._unread:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"no such event in time; {(self._folder / 'up.err').read_text()}"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


@pytest.fixture
def up(shop: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(shop, *arguments))
        return started[-1]

    yield start
    for running in started:
        end(running.process)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ordered(running: Running, order_id: str) -> bool:
    try:
        url = running.state["processes"]["desk"]["url"]
        return httpx.post(f"{url}/orders/{order_id}", params={"what": "a book"}, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_system_comes_up_survives_its_victims_and_ends_quickly(
    up: Callable[..., Running], millstream: Callable[..., subprocess.CompletedProcess[str]]
):
    running = up("--with", "idle")
    running.until("up")
    before = running.state
    assert before["up"]
    assert ordered(running, "o-1")
    for victim in ("packing", "platform", "desk"):
        os.kill(running.state["processes"][victim]["pid"], signal.SIGKILL)
        assert running.until("exited", victim)["code"] == -9
        assert running.until("restarted", victim)["pid"] != before["processes"][victim]["pid"]
        running.until("ready", victim)
        wait_until(lambda order_id=f"after-{victim}": ordered(running, order_id), seconds=60, what="orders are taken")
    # What cannot be handled is told where somebody looks.
    url = before["processes"]["desk"]["url"]
    assert httpx.post(f"{url}/orders/bad", params={"what": "a bomb"}, timeout=10).status_code == 200
    logged = running.until("logged", "packing")
    assert logged["level"] == "error"
    assert logged["detail"].startswith(
        "dead letter  service=packing handler=pack topic=shop.orders.dlq reason=forbidden"
    )
    after = running.state
    assert after["addresses"] == before["addresses"]
    assert after["processes"]["platform"]["restarts"] == 1
    # Commands beside it find the brokers without being told.
    parcels = millstream("tail", "shop.parcels", "--from-beginning", "--max", "4", "--json").stdout.splitlines()
    packed = {json.loads(line)["key"] for line in parcels}
    assert packed >= {"o-1", "after-packing", "after-platform", "after-desk"}
    second = millstream("up", "--port", "0", "--kafka-port", "0", "--registry-port", "0")
    assert second.returncode == 2
    assert f"process {running.process.pid}" in second.stderr
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert all(gone(process["pid"]) for process in after["processes"].values())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_nothing_is_left_of_an_up_that_is_killed(up: Callable[..., Running]):
    running = up()
    running.until("ready", "platform")
    children = [process["pid"] for process in running.state["processes"].values()]
    running.process.kill()
    wait_until(lambda: all(gone(pid) for pid in children), seconds=60, what="the children die")


def test_the_password_of_a_registry_is_shown_to_nobody(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(shop))
    system = System("shop", ["shop:desk"])
    registry = "http://alice:s3cret@127.0.0.1:2"
    (tmp_path / "up.json.new").touch(mode=0o644)
    modes: list[int] = []
    with Up(system, "shop:system", data=tmp_path, port=0, bootstrap_servers="127.0.0.1:1", registry=registry) as up:
        screen = screen_for(up, as_json=False, terminal=False)

        def note(event: Event) -> None:
            screen.show(event)
            modes.append((tmp_path / "up.json").stat().st_mode & 0o777)
            assert json.loads((tmp_path / "up.json").read_text())["registry"] == registry
            assert up.supervisor is not None
            up.supervisor.stop()

        asyncio.run(up.run(note))
        screen.show(Event("up"))
    assert set(modes) == {0o600}
    shown = capsys.readouterr().out
    assert "http://alice:" in shown
    assert "s3cret" not in shown


def test_the_platform_is_strict_and_as_slow_as_a_cluster_where_that_is_wished(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(shop))
    system = System("shop", ["shop:desk"])
    free: dict[str, Any] = {"data": tmp_path, "port": 0, "kafka_port": 0, "registry_port": 0}
    for like_a_cluster in (False, True):
        with Up(system, "shop:system", like_a_cluster=like_a_cluster, **free) as up:
            command = up.programs()[0].command
        assert command[command.index("--auto-create") + 1] == "0"
        assert ("--like-a-cluster" in command) == like_a_cluster
    with pytest.raises(ConfigurationError, match="--like-a-cluster is for the local platform"):
        Up(system, "shop:system", data=tmp_path, bootstrap_servers="k:1", registry="http://r:1", like_a_cluster=True)


def test_addresses_stay_from_one_start_to_the_next_and_are_shown(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(shop))
    system = System("shop", ["shop:desk", "shop:packing"])

    def started() -> Up:
        return Up(system, "shop:system", data=tmp_path, port=0, bootstrap_servers="127.0.0.1:1", registry="http://r")

    with started() as first:
        addresses = first.addresses
        shown = where(first)
        assert [f"  {name:<12} {url}" for name, url in addresses.items()] == shown[:2]
        assert not any("/docs" in line for line in shown)
    with started() as second:
        assert second.addresses == addresses
    host, _, port = addresses["desk"].removeprefix("http://").partition(":")
    with socket.create_server((host, int(port))), started() as third:
        assert third.addresses["desk"] != addresses["desk"]
        assert third.addresses["packing"] == addresses["packing"]


@pytest.mark.parametrize(("answer", "shown"), [(200, True), (404, False), (None, False)])
def test_a_page_of_documentation_is_named_only_where_there_is_one(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | None, shown: bool
):
    monkeypatch.syspath_prepend(str(shop))
    system = System("shop", ["shop:desk"])

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer or 500)
            self.end_headers()

        def log_message(self, format: str, *_: Any) -> None:
            """Nothing."""

    with ExitStack() as stack:
        up = stack.enter_context(
            Up(system, "shop:system", data=tmp_path, port=0, bootstrap_servers="127.0.0.1:1", registry="http://r")
        )
        assert up.public_url is not None
        if answer is not None:
            port = int(up.public_url.rpartition(":")[2])
            server = stack.enter_context(HTTPServer(("127.0.0.1", port), Answers))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        assert (f"  {up.public_url}/docs" in where(up)) is shown
        assert where(up)[0] == f"  {up.public_url}"


def test_a_busy_port_is_named(shop: Path, millstream: Callable[..., subprocess.CompletedProcess[str]]):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        result = millstream("up", "--kafka-port", port)
    assert result.returncode == 2
    assert f"Port {port}, the local broker's" in result.stderr
    assert "--kafka-port" in result.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("def app(web:", "SyntaxError: '(' was never closed"),
        ("PRICE = prise", "NameError: name 'prise' is not defined"),
    ],
)
def test_a_service_with_broken_code_ends_it_all_with_its_line(
    shop: Path, millstream: Callable[..., subprocess.CompletedProcess[str]], line: str, said: str
):
    """The system itself can be read: only the process of the service imports the broken module."""
    (shop / "broken.py").write_text(f"from millstream import Service\n{line}\n")
    (shop / "whole.py").write_text("from millstream import System\nsystem = System('w', ['broken:broken'])\n")
    result = millstream("up", "--system", "whole:system", "--port", "0", "--kafka-port", "0", "--registry-port", "0")
    assert result.returncode == 2
    assert said in result.stdout
    assert f"{shop}/broken.py:2" in result.stdout
    assert "starting it again would not help" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert result.stdout.count(said) == 1


def test_a_platform_that_cannot_start_ends_it_all(
    shop: Path, millstream: Callable[..., subprocess.CompletedProcess[str]]
):
    (shop / ".millstream").mkdir()
    (shop / ".millstream" / "broker").write_text("no folder")
    result = millstream("up", "--port", "0", "--kafka-port", "0", "--registry-port", "0")
    assert result.returncode == 2
    assert "platform" in result.stdout
    assert "cannot start" in result.stdout
