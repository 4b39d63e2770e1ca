"""`millstream logs`, and how its lines read."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.operate import process_log
from millstream.operate.log_lines import crash, for_people, read_line
from millstream.operate.process_log import ProcessLog
from millstream.testing.child import end, wait_until, with_tests

Millstream = Callable[..., subprocess.CompletedProcess[str]]


def raised(source: str, file: str = "/srv/shop/packing.py") -> BaseException:
    """What code of a user raises."""
    try:
        exec(compile(source, file, "exec"), {})
    except Exception as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    raise AssertionError


def stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def record(level: str, message: str, at: str = "2026-03-01T12:00:00.000Z", **more: object) -> str:
    return json.dumps({"@timestamp": at, "log.level": level, "message": message, **more})


def test_a_chain_of_errors_is_the_last_one_and_where_it_came_from():
    error = raised(
        "def pack():\n  try: 1/0\n  except ZeroDivisionError as cause: raise ValueError('odd') from cause\npack()"
    )
    told = crash(stack(error)).splitlines()
    assert told[0] == "ValueError: odd"
    assert told[1:] == ["  /srv/shop/packing.py:4", "  /srv/shop/packing.py:3 in pack"]


def test_an_error_raised_in_a_library_points_at_the_line_that_called_it():
    told = crash(stack(raised("import json\ndef read(): json.loads('{')\nread()"))).splitlines()
    assert told[0].startswith("json.decoder.JSONDecodeError: ")
    assert told[-1] == "  /srv/shop/packing.py:2 in read"


def test_a_syntax_error_and_a_group_are_read():
    told = crash(stack(raised("def pack(:\n  pass"))).splitlines()
    assert told == ["SyntaxError: invalid syntax", "  /srv/shop/packing.py:1", "    def pack(:"]
    group = raised("def pack(): raise ExceptionGroup('two', [ValueError('odd')])\npack()")
    assert crash(stack(group)).splitlines()[0].startswith(("ExceptionGroup: two", "ValueError: odd"))
    assert crash("all is well") == ""


def test_an_error_in_a_record_is_one_block_below_its_message():
    error = {"type": "builtins.NameError", "message": "odd", "stack_trace": stack(raised("def pack(): retrun\npack()"))}
    line = read_line(
        record("error", "worker failed", millstream={"worker": "packing.kafka", "error": "odd"}, error=error)
    )
    assert for_people(line).splitlines() == [
        "worker failed  worker=packing.kafka",
        "NameError: name 'retrun' is not defined",
        "  /srv/shop/packing.py:2",
        "  /srv/shop/packing.py:1 in pack",
    ]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (record("warning", "late"), "warning"),
        ("2026-03-01T12:00:00Z [error    ] late   error=why", "error"),
        ("2026-11-30 15:05:00,123 WARNING a torn tail", "warning"),
        ("an error of mine", ""),
        ('{"message": 1}', ""),
        ("{", ""),
    ],
)
def test_the_level_of_a_line_is_read_in_each_form(text: str, level: str):
    assert read_line(text).level == level


def test_a_follower_misses_nothing_of_a_log_that_is_set_aside_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_log, "MAX_LOG", 20)
    file = tmp_path / "a.log"
    keeper, follower = ProcessLog(file), ProcessLog(file)
    with file.open("a") as written:
        print("first", file=written, flush=True)
        assert follower.lines() == ["first"]
        print("second, which is long", file=written, flush=True)
        assert keeper.rotate()
        print("third", file=written, flush=True)
    assert follower.lines() == ["second, which is long"]
    assert follower.lines() == ["third"]
    assert file.read_text() == "third\n"
    file.write_text("")
    assert follower.lines() == []  # emptied by another hand: what was set aside is no news


@pytest.fixture
def written(shop: Path) -> Path:
    folder = shop / ".millstream" / "logs"
    folder.mkdir(parents=True)
    (folder / "desk.log").write_text(record("info", "running", "2026-03-01T12:00:02.000Z") + "\nprinted\n")
    (folder / "packing.log.1").write_text(record("error", "oldest", "2026-03-01T12:00:00.000Z") + "\n")
    (folder / "packing.log").write_text(
        record("warning", "late", "2026-03-01T12:00:01.500Z", millstream={"worker": "w"}) + "\n"
    )
    return folder


@pytest.mark.slow
def test_logs_are_shown_by_time_and_readable(millstream: Millstream, written: Path):
    assert millstream("logs").stdout.splitlines() == [
        "12:00:00.000 packing      ERROR oldest",
        "12:00:01.500 packing      WARNING late  worker=w",
        "12:00:02.000 desk         INFO running",
        "12:00:02.000 desk         printed".replace("12:00:02.000 ", ""),
    ]
    assert (
        millstream("logs", "--level", "warning", "-n", "1").stdout
        == "12:00:01.500 packing      WARNING late  worker=w\n"
    )
    assert millstream("logs", "desk").stdout.count("\n") == 2
    machine = [json.loads(line) for line in millstream("logs", "--json").stdout.splitlines()]
    assert [line["message"] for line in machine] == ["oldest", "late", "running", "printed"]


def test_logs_that_are_not_there_are_named_with_a_remedy(millstream: Millstream, shop: Path):
    none = millstream("logs")
    assert none.returncode == 2
    assert "`millstream up` writes them there" in none.stderr
    (shop / ".millstream" / "logs").mkdir(parents=True)
    (shop / ".millstream" / "logs" / "desk.log").touch()
    assert "there are desk" in millstream("logs", "pcking").stderr
    assert "No such line" in millstream("logs").stderr
    assert "debug, info" in millstream("logs", "--level", "loud").stderr


def test_logs_are_followed(shop: Path, written: Path, tmp_path: Path):
    command = [sys.executable, "-c", "from millstream.operate.cli import main; main()", "logs", "packing", "--follow"]
    output = tmp_path / "out"
    with output.open("w") as out:
        process = subprocess.Popen(command, cwd=shop, stdout=out, env=os.environ, preexec_fn=with_tests())
    try:
        wait_until(lambda: "late" in output.read_text(), seconds=60, what="what was there is shown")
        with (written / "packing.log").open("a") as more:
            print(record("info", "news"), file=more)
        wait_until(lambda: "news" in output.read_text(), seconds=60, what="the news are shown")
    finally:
        end(process)
