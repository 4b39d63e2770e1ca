"""The supervisor over tiny real children."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from millstream.errors import ConfigurationError
from millstream.operate import process_log, supervisor
from millstream.operate.ports import Reserved
from millstream.operate.supervisor import Event, Program, Shown, Supervisor
from millstream.testing.child import wait_until

pytestmark = pytest.mark.anyio

SERVER = """
    import signal, sys
    from http.server import BaseHTTPRequestHandler, HTTPServer
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)
"""


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(source), *arguments]


class Scene:
    """A supervisor at work, and what it told."""

    def __init__(self, programs: list[Program], logs: Path, shown: Shown = "trouble") -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()
        self.supervisor = Supervisor(programs, logs=logs, shown=shown, on_event=self._note)
        self.ended = asyncio.create_task(self.supervisor.run())

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, kind: str, name: str = "", *, times: int = 1) -> Event:
        async with asyncio.timeout(60):
            while True:
                found = [event for event in self.events if event.kind == kind and event.name == name]
                if len(found) >= times:
                    return found[times - 1]
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def scene(tmp_path: Path, *programs: Program) -> AsyncIterator[Scene]:
    playing = Scene(list(programs), tmp_path / "logs")
    try:
        yield playing
    finally:
        if not playing.ended.done():
            playing.supervisor.stop()
        await asyncio.wait_for(playing.ended, 60)


def gone(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_killed_child_starts_again_on_its_address(tmp_path: Path):
    port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    server = Program("server", python(SERVER, str(port.port)), url=port.url)
    async with scene(tmp_path, server) as playing:
        first = await playing.until("ready", "server")
        await playing.until("up")
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        assert (await playing.until("exited", "server")).code == -signal.SIGKILL
        again = await playing.until("restarted", "server")
        assert again.pid != first.pid
        await playing.until("ready", "server", times=2)
    assert playing.events[-1].kind == "stopped"
    assert gone(again.pid)
    port.release()


async def test_one_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path):
    began = time.monotonic()
    async with scene(tmp_path, Program("broken", python("raise SystemExit('no luck')"))) as playing:
        assert (await playing.until("exited", "broken", times=4)).detail == "no luck"
    assert time.monotonic() - began > 0.1 + 0.2 + 0.4


async def test_one_that_is_hopeless_ends_the_whole_before_it_is_up(tmp_path: Path):
    port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    programs = [
        Program("server", python(SERVER, str(port.port)), url=port.url),
        Program("wrong", python("import sys; print('no such topic'); sys.exit(2)"), url="http://127.0.0.1:1"),
    ]
    async with scene(tmp_path, *programs) as playing:
        assert await asyncio.wait_for(playing.ended, 60) is False
    assert (await playing.until("failed", "wrong")).detail == "no such topic"
    port.release()


async def test_an_optional_one_is_not_waited_for(tmp_path: Path):
    port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    programs = [
        Program("server", python(SERVER, str(port.port)), url=port.url),
        Program("silent", python("import time; time.sleep(60)"), url="http://127.0.0.1:1", awaited=False),
    ]
    async with scene(tmp_path, *programs) as playing:
        await playing.until("up")
    port.release()


async def test_the_deaf_are_killed_and_the_foundation_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "PROCESS_STOP_TIMEOUT", 0.3)
    farewell = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(str(time.time())))"
    base = Program("base", python(f"{farewell}\nprint(0, flush=True)\ntime.sleep(60)"), foundation=True)
    async with scene(tmp_path, base, Program("deaf", python(STUBBORN))) as playing:
        logs = playing.supervisor.children
        await asyncio.to_thread(
            wait_until,
            lambda: bool(logs["deaf"].last_words() and logs["base"].last_words()),
            seconds=60,
            what="started",
        )
        asked = time.time()
    assert time.time() - asked > 0.3
    assert float(logs["base"].last_words()) > asked + 0.3


async def test_a_second_stop_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "PROCESS_STOP_TIMEOUT", 3_600.0)
    async with scene(tmp_path, Program("deaf", python(STUBBORN))) as playing:
        deaf = playing.supervisor.children["deaf"]
        await asyncio.to_thread(wait_until, lambda: deaf.last_words() == "deaf", seconds=60, what="the child is deaf")
        playing.supervisor.stop()
        await asyncio.sleep(0)
        playing.supervisor.stop()
        await asyncio.wait_for(playing.ended, 60)


async def test_what_cannot_be_started_at_all_is_raised(tmp_path: Path):
    playing = Scene([Program("none", ["/nowhere/to/be/found"])], tmp_path / "logs")
    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(playing.ended, 60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_children_die_with_a_killed_supervisor(tmp_path: Path):
    parent = f"""
        import asyncio, pathlib
        from millstream.operate.supervisor import Program, Supervisor
        async def main():
            child = Program("child", {python("import time; time.sleep(60)")!r})
            tell = lambda event: print(event.pid, flush=True)
            await Supervisor([child], logs=pathlib.Path({str(tmp_path)!r}), on_event=tell).run()
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not gone(child)
        process.kill()
    wait_until(lambda: gone(child), seconds=60, what="the child died with its parent")


def test_a_log_that_grew_large_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_log, "MAX_LOG", 10)
    log = tmp_path / "child.log"
    log.write_text("something long")
    child = supervisor.Supervised(Program("child", python("")), log)
    child.start()
    assert child.process is not None
    child.process.wait(5)
    assert (tmp_path / "child.log.1").read_text() == "something long"
    assert log.read_text() == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '{"message": "cannot start", "millstream": {"error": "the slot is taken"}}',
            "cannot start: the slot is taken",
        ),
        ('{"message": "boom", "error": {"message": "why"}}', "boom: why"),
        ("Traceback", "Traceback"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_last_words(tmp_path: Path, line: str, words: str):
    log = tmp_path / "child.log"
    log.write_text(line)
    assert supervisor.Supervised(Program("child", []), log).last_words() == words


def test_a_reserved_port_is_given_to_nobody_else_but_ours_may_listen():
    reserved = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reserved.port))
    with socket.create_server(("127.0.0.1", reserved.port)):
        pass
    reserved.release()


def test_a_busy_port_is_named_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"Port {port}, the public address.*--port"):
            Reserved("127.0.0.1", port, purpose="the public address", option="--port")


async def test_what_a_program_says_is_news_but_its_log_is_not(tmp_path: Path):
    says = """
        import time
        print('{"message": "one of many"}', flush=True)
        print("first order completed", flush=True)
        time.sleep(60)
    """
    async with scene(tmp_path, Program("shoppers", python(says), heard=True)) as playing:
        event = await playing.until("said", "shoppers")
    assert event.detail == "first order completed"
    assert [event.kind for event in playing.events].count("said") == 1


WARNS = """
    import json, sys, time
    for number in range(50):
        print(json.dumps({"log.level": "info", "message": f"step {number}"}))
        print(json.dumps({"log.level": "warning", "message": "late", "millstream": {"number": number}}), flush=True)
    time.sleep(60)
"""


async def test_warnings_of_a_log_are_told_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "LINES_SECONDS", 1.0)
    async with scene(tmp_path, Program("service", python(WARNS))) as playing:
        last = await playing.until("logged", "service", times=supervisor.MAX_LINES + 1)
    told = [event for event in playing.events if event.kind == "logged"]
    assert (told[0].level, told[0].detail) == ("warning", "late  number=0")
    assert last.detail == "… 30 more lines of trouble: millstream logs service"
    assert len(told) == supervisor.MAX_LINES + 1


async def test_all_of_a_log_is_told_where_that_is_asked_for(tmp_path: Path):
    playing = Scene([Program("service", python(WARNS))], tmp_path / "logs", shown="all")
    await playing.until("logged", "service", times=100)
    playing.supervisor.stop()
    await asyncio.wait_for(playing.ended, 60)
    assert [(event.level, event.detail) for event in playing.events if event.kind == "logged"][:2] == [
        ("info", "step 0"),
        ("warning", "late  number=0"),
    ]


async def test_a_crash_is_told_as_one_block_with_the_users_own_line(tmp_path: Path):
    (tmp_path / "shop.py").write_text("import json\ndef pack():\n    return json.loads('{')\npack()\n")
    source = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nprint('hello')\nimport shop"
    async with scene(tmp_path, Program("service", python(source))) as playing:
        crashed = await playing.until("exited", "service")
    assert crashed.detail.splitlines()[0].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert f"  {tmp_path}/shop.py:3 in pack" in crashed.detail.splitlines()
    assert "decoder.py" not in crashed.detail


async def test_a_log_is_set_aside_while_its_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_log, "MAX_LOG", 1_000)
    says = """
        import signal, time
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        for number in range(3):
            for line in range(30):
                print(number, line, "x" * 50, flush=True)
            signal.sigwait([signal.SIGUSR1])
    """
    async with scene(tmp_path, Program("talker", python(says), heard=True)) as playing:
        talker = playing.supervisor.children["talker"]
        await playing.until("said", "talker", times=30)
        log, older = tmp_path / "logs" / "talker.log", tmp_path / "logs" / "talker.log.1"
        await asyncio.to_thread(wait_until, older.exists, seconds=60, what="the log is set aside")
        assert older.read_text().splitlines()[-1].startswith("0 29 ")
        talker.signal(signal.SIGUSR1)
        assert (await playing.until("said", "talker", times=60)).detail.startswith("1 29 ")
        await asyncio.to_thread(
            wait_until, lambda: older.read_text().startswith("1 0 "), seconds=60, what="it is set aside again"
        )
        assert log.stat().st_size < 1_000
        assert not [event for event in playing.events if event.kind == "exited"]


async def test_a_log_that_somebody_removes_ends_nothing(tmp_path: Path):
    says = "import time\nprint('hello', flush=True)\ntime.sleep(60)"
    server, shoppers = Program("server", python("import time; time.sleep(60)")), Program("shoppers", python(says))
    async with scene(tmp_path, server, replace(shoppers, heard=True)) as playing:
        first = await playing.until("said", "shoppers")
        shutil.rmtree(tmp_path / "logs")
        assert playing.supervisor.children["shoppers"].news() == []
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        again = await playing.until("said", "shoppers", times=2)
        assert again.pid != first.pid
        assert not [event for event in playing.events if event.name == "server" and event.kind != "started"]


def test_news_of_a_log_that_was_emptied_begins_anew(tmp_path: Path):
    log = tmp_path / "child.log"
    child = supervisor.Supervised(Program("child", [], heard=True), log)
    assert child.news() == []
    log.write_text("a long line\n")
    assert child.news() == ["a long line"]
    log.write_text("new\n")
    assert child.news() == ["new"]


def test_a_line_too_long_for_news_is_left_out(tmp_path: Path):
    log = tmp_path / "child.log"
    child = supervisor.Supervised(Program("child", [], heard=True), log)
    log.write_text("before\n" + "x" * (2 * process_log.MAX_NEWS + 10))
    heard = [line for _ in range(5) for line in child.news()]
    with log.open("a") as said:
        said.write(" the end of it\n\nafter\n")
    heard += [line for _ in range(5) for line in child.news()]
    assert heard == ["before", "after"]
