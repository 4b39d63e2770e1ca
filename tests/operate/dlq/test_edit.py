"""Editing an event: a value that fits is redriven as the same event; one that does not is refused before any write."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.operate.dlq.dead_letter import DeadLetter


@pytest.fixture
def dead_letter(rig: DlqRig) -> DeadLetter:
    rig.dead_letter(rig.order("o-1", 7))
    return rig.dead_letters()[0]


def decoded(rig: DlqRig, value: bytes | None) -> Any:
    return rig.contracts.decoder([rig.module.orders]).decode(value)


def test_a_field_that_is_set_goes_on_as_the_same_event(rig: DlqRig, dead_letter: DeadLetter):
    assert rig.call("edit", str(dead_letter.id), "--set", "quantity=3", "--as", "ann").code == 0
    [redriven] = rig.redriven()
    assert decoded(rig, redriven.value()) == rig.module.Ordered(order_id="o-1", quantity=3, email="ada@example.org")
    assert (redriven.at, redriven.key(), redriven.headers()) == (dead_letter.at, b"o-1", dead_letter.headers)
    [action] = rig.actions()
    assert (action["dead_letter"], action["action"], action["changed"]) == (str(dead_letter.id), "edit", ["$.quantity"])
    assert "edited by ann" in rig.call("redrive", str(dead_letter.id)).refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "quantity=many"], "Ordered.quantity: a str is no int"),
        (["--set", "quantity=99999999999999999999"], "quantity"),
        (["--set", "quantitee=3"], "there is no 'quantitee'; there is order_id, quantity, email"),
        (["--set", "quantity"], "FIELD=VALUE"),
        (["--set", "quantity.of=3"], "nothing inside"),
        (["--set", "order_id=o-2"], "an event of another key is another event"),
        (["--set", "quantity=7"], "nothing is changed"),
        (["--value-file", "{folder}/missing.json"], "missing.json"),
        (["--value-file", "{folder}/broken.json"], "no JSON"),
        (["--value-file", "{folder}/latin.json"], "Save it in UTF-8"),
        (["--value-file", "{folder}/typo.json"], "Ordered.quantitee: there is no such field"),
        (["--value-file", "{folder}/short.json"], "the field order_id is missing"),
        (["--set", "quantity=3", "--value-file", "x"], "give one of them"),
        (["--set", "quantity=3", "--type", "Nothing"], "carries Ordered, Cancelled"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    rig: DlqRig, dead_letter: DeadLetter, arguments: list[str], said: str
):
    (rig.folder / "broken.json").write_text("{")
    (rig.folder / "latin.json").write_text('{"order_id": "é"}', encoding="latin-1")
    (rig.folder / "typo.json").write_text('{"order_id": "o-1", "quantitee": 3}')
    (rig.folder / "short.json").write_text('{"quantity": 3}')
    refused = rig.call(
        "edit", str(dead_letter.id), *(argument.format(folder=rig.folder) for argument in arguments)
    ).refused
    assert said in refused
    assert rig.redriven() == rig.actions() == []


@pytest.mark.parametrize("value", [b"\x07garbage", None], ids=["garbage", "a tombstone where there are none"])
def test_a_whole_new_value_replaces_bytes_that_cannot_be_decoded(rig: DlqRig, value: bytes | None):
    rig.dead_letter(*rig.send(raw=[("o-1", value)]), handler=None)
    [dead_letter] = rig.dead_letters()
    assert "--type" in rig.call("edit", str(dead_letter.id), "--set", "quantity=1").refused
    assert (
        "whole new value" in rig.call("edit", str(dead_letter.id), "--set", "quantity=1", "--type", "Ordered").refused
    )
    (rig.folder / "new.json").write_text('{"order_id": "o-1", "quantity": 2}')
    file = str(rig.folder / "new.json")
    assert (
        "1 would be done"
        in rig.call("edit", str(dead_letter.id), "--type", "Ordered", "--value-file", file, "--dry-run").output
    )
    assert rig.redriven() == []
    assert rig.call("edit", str(dead_letter.id), "--type", "Ordered", "--value-file", file).code == 0
    [redriven] = rig.redriven()
    assert decoded(rig, redriven.value()) == rig.module.Ordered(order_id="o-1", quantity=2)
    assert rig.actions()[0]["changed"] == ["$"]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, where nothing of a dead letter is to be left."""
    folder = tmp_path / "left"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def editor(folder: Path, does: str) -> str:
    """An editor that keeps what it was shown, leaves a copy of it beside, and then does what it is to do to `p`."""
    script = folder / "editor.py"
    seen = folder / "seen.json"
    script.write_text(
        "import os, pathlib, shutil, signal, sys; p = pathlib.Path(sys.argv[1])\n"
        f"shutil.copy(p, str(p) + '~'); shutil.copy(p, {str(seen)!r})\n{does}\n"
    )
    return f"{sys.executable} {script}"


def replacing(before: str, after: str) -> str:
    return f"p.write_text(p.read_text().replace({before!r}, {after!r}))"


def test_the_editor_shows_no_personal_data_and_keeps_it(rig: DlqRig, dead_letter: DeadLetter, left: Path):
    command = editor(rig.folder, replacing('"quantity": 7', '"quantity": 8'))
    assert rig.call("edit", str(dead_letter.id), EDITOR=command, VISUAL="").code == 0
    assert json.loads((rig.folder / "seen.json").read_text())["email"] == "••••••"
    [redriven] = rig.redriven()
    assert decoded(rig, redriven.value()) == rig.module.Ordered(order_id="o-1", quantity=8, email="ada@example.org")
    assert list(left.iterdir()) == []


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (replacing('"quantity": 7', '"quantity": "many"'), "a str is no int"),
        ("p.write_bytes(p.read_bytes() + b'\\xe9')", "Save it in UTF-8"),
    ],
    ids=["does not fit", "another encoding"],
)
def test_what_was_typed_into_the_editor_is_not_lost_when_it_does_not_fit(
    rig: DlqRig, dead_letter: DeadLetter, left: Path, does: str, said: str
):
    refused = rig.call("edit", str(dead_letter.id), EDITOR=editor(rig.folder, does), VISUAL="").refused
    assert said in refused
    kept = Path(refused.partition("Your text is in ")[2].partition(":")[0])
    assert kept.is_relative_to(left)
    assert kept.read_bytes() != (rig.folder / "seen.json").read_bytes()
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert rig.redriven() == []


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("", "nothing is changed"),
        ("p.unlink()", "left no text"),
        ("sys.exit(3)", "ended with 3; nothing was written"),
    ],
)
def test_where_nothing_was_typed_nothing_is_kept(
    rig: DlqRig, dead_letter: DeadLetter, left: Path, does: str, said: str
):
    answer = rig.call("edit", str(dead_letter.id), "--reveal", EDITOR=editor(rig.folder, does), VISUAL="")
    assert said in answer.refused
    assert "ada@example.org" in (rig.folder / "seen.json").read_text()
    assert list(left.iterdir()) == []
    assert rig.redriven() == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "Set EDITOR"),
        (" ", "Set EDITOR"),
        ('vim "', 'EDITOR=vim " is no command (No closing quotation)'),
        ("/no/such/editor -w", "cannot be started"),
    ],
)
def test_what_is_no_editor_is_refused(rig: DlqRig, dead_letter: DeadLetter, left: Path, command: str, said: str):
    assert said in rig.call("edit", str(dead_letter.id), EDITOR=command, VISUAL="").refused
    assert list(left.iterdir()) == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs that are started now heed Ctrl-C, though who runs the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing_behind(rig: DlqRig, dead_letter: DeadLetter, left: Path):
    # Ctrl-C goes to both; the editor waits for its end.
    command = editor(rig.folder, "os.kill(os.getppid(), signal.SIGINT); signal.pause()")
    millstream = [str(Path(sys.executable).parent / "millstream"), "dlq", "edit", str(dead_letter.id), "--reveal"]
    env = {**os.environ, **rig.env, "EDITOR": command, "VISUAL": ""}
    ended = subprocess.run(millstream, env=env, cwd=rig.folder, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "ada@example.org" in (rig.folder / "seen.json").read_text()
    assert list(left.iterdir()) == []
    assert rig.redriven() == []
