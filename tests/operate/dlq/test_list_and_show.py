"""What people see of dead letters, and how they choose among them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from tests.operate.dlq.rig import DlqRig
from tests.operate.dlq.serving import serving, wait_for_actions

from millstream.errors import Rejected


def test_a_dead_letter_shows_its_origin_and_reason_and_hides_personal_data(rig: DlqRig):
    message = rig.order("o-1", 7)
    rig.dead_letter(message, error=Rejected("too_many", "7 of ada@example.org"), redrives=1, first_failed_at=1_000.0)
    [row] = rig.call("list", "--json").rows
    assert row["value"] == {"order_id": "o-1", "quantity": 7, "email": "••••••"}
    assert (row["state"], row["reason"], row["error"]) == ("open", "too_many", "millstream.errors.Rejected")
    assert (row["service"], row["group"], row["handler"]) == (rig.service.name, rig.group, "pack")
    assert (row["topic"], row["partition"], row["offset"]) == (rig.orders, message.partition(), message.offset())
    assert (row["attempts"], row["redrives"], row["key"], row["type"]) == (3, 1, "o-1", "test.Ordered")
    assert row["first_failed_at"] == "1970-01-01T00:16:40.000+00:00"
    assert "ada@example.org" not in str(row)
    [revealed] = rig.call("list", "--json", "--reveal").rows
    assert revealed["value"]["email"] == "ada@example.org"
    assert revealed["message"] == "too_many: 7 of ada@example.org"
    shown = rig.call("show", row["id"])
    assert row["id"] in shown.output
    assert "ada@example.org" not in shown.output
    assert "--reveal shows it" in shown.hints
    assert "ada@example.org" in rig.call("show", row["id"], "--reveal").output
    table = rig.call("list").output
    assert row["id"] in table
    assert "too_many" in table


def test_bytes_that_cannot_be_decoded_are_shown_as_they_are(rig: DlqRig):
    rig.dead_letter(*rig.send(raw=[("o-1", b"\x07garbage")]), handler=None, error=Rejected("not_framed"))
    [row] = rig.call("list", "--json", "--reveal").rows
    assert (row["bytes"], row["hex"]) == (8, b"\x07garbage".hex())
    assert "value" not in row


@pytest.fixture
def three(rig: DlqRig) -> DlqRig:
    """Three dead letters that differ in everything; the last one parked."""
    rig.dead_letter(rig.order("o-1"), error=TimeoutError("no answer"))
    rig.dead_letter(rig.order("o-2"), error=Rejected("too_many"), service="elsewhere")
    rig.dead_letter(*rig.send(rig.module.Cancelled(order_id="o-3")), error=ValueError("why"), parked=True)
    return rig


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], {"o-1", "o-2", "o-3"}),
        (["--key", "o-2"], {"o-2"}),
        (["--error", "TimeoutError"], {"o-1"}),
        (["--error", "builtins.*"], {"o-1", "o-3"}),
        (["--reason", "too_*"], {"o-2"}),
        (["--type", "Cancelled"], {"o-3"}),
        (["--type", "test.Ordered"], {"o-1", "o-2"}),
        (["--state", "parked"], {"o-3"}),
        (["--state", "redriven"], set()),
        (["--since", "1h"], {"o-1", "o-2", "o-3"}),
        (["--until", "1h"], set()),
        (["--since", "1h", "--until", "2000-01-01"], None),
        (["--since", "yesterday"], None),
        (["--service", "elsewhere"], None),
        (["--schema", "999999"], set()),
        (["--limit", "2"], 2),
    ],
)
def test_filters(three: DlqRig, options: list[str], keys: set[str] | int | None):
    answer = three.call("list", "--json", *options)
    if keys is None:
        assert answer.refused
    elif isinstance(keys, int):
        assert len(answer.rows) == keys
    else:
        assert {row["key"] for row in answer.rows} == keys


def test_only_one_topic_by_its_name_or_that_of_its_dead_letters(three: DlqRig):
    assert len(three.call("list", three.orders, "--json").rows) == 3
    assert len(three.call("list", three.dlq, "--json").rows) == 3
    assert len(three.call("list", "--topic", three.orders, "--json").rows) == 3
    assert "two topics" in three.call("list", three.orders, "--topic", three.dlq).refused
    assert "has" in (refused := three.call("list", "nowhere").refused) and three.dlq in refused


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("rubbish", "TOPIC:PARTITION:OFFSET"),
        ("nowhere.dlq:0:0", "There is no topic 'nowhere.dlq'"),
        ("{dlq}:7:0", "2 partitions"),
        ("{dlq}:0:999", "no such record"),
    ],
)
def test_a_malformed_id_is_refused(three: DlqRig, id: str, said: str):
    assert said in three.call("show", id.format(dlq=three.dlq)).refused
    assert said in three.call("redrive", id.format(dlq=three.dlq)).refused
    assert not three.actions()


@pytest.mark.slow
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"topic": b"\xff\xfe"},
        {"partition": b"-1"},
        {"partition": b"many"},
        {"offset": b"9" * 30},
        {"failed-at": b"yesterday"},
        {"redrives": b"\xff"},
    ],
    ids=str,
)
def test_what_no_worker_wrote_is_skipped(rig: DlqRig, said: dict[str, bytes]):
    rig.dead_letter(rig.order("o-1"))
    [dead_letter] = rig.records(rig.dlq)
    headers = {name: value for name, value in dead_letter.headers() or () if said}
    headers |= {f"millstream-dlq-{name}": value for name, value in said.items()}
    producer = rig.kafka.producer()
    producer.produce(rig.dlq, b"somebody's", b"o-9", list(headers.items()), partition=1 - dead_letter.partition())
    producer.flush()
    producer.close()
    assert [row["key"] for row in rig.call("list", "--json").rows] == ["o-1"]
    assert "is no dead letter" in rig.call("show", f"{rig.dlq}:{1 - dead_letter.partition()}:0").refused
    rules = f'[[rule]]\nname = "{rig.name}"\nreason = "*"\n'
    with serving(rig, rules):
        wait_for_actions(rig, 1)
    assert [redriven.key() for redriven in rig.redriven()] == [b"o-1"]


def test_a_bar_on_the_terminal_leaves_the_pipe_alone(rig: DlqRig):
    rig.dead_letter(rig.order("o-1"))
    controller, terminal = os.openpty()
    command = "import sys; sys.argv[0] = 'millstream'; from millstream.operate.cli import main; main()"
    listed = subprocess.run(
        [sys.executable, "-c", command, "dlq", "list", "--json"],
        cwd=rig.folder,
        env={**os.environ, **rig.env, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        timeout=30,
        check=True,
    )
    shown = os.read(controller, 65_536).decode()
    os.close(controller)
    os.close(terminal)
    assert "Reading" in shown
    assert json.loads(listed.stdout)["key"] == "o-1"


@pytest.mark.parametrize("command", ["list", "show", "redrive", "edit", "discard", "serve"])
def test_every_command_explains_itself_with_examples(millstream: Callable[..., CompletedProcess[str]], command: str):
    helped = millstream("dlq", command, "--help")
    assert helped.returncode == 0
    assert f"millstream dlq {command}" in helped.stdout.split("Examples:")[1]
    assert "Exit codes" in helped.stdout


def test_what_is_refused_is_a_line_and_exit_code_2(millstream: Callable[..., CompletedProcess[str]]):
    refused = millstream("dlq", "redrive")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("millstream: Which dead letters?")
