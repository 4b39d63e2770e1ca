"""Mending an event: what fits goes on as the same event, what does not is refused before anything is written."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.operate.dlq.letter import DeadLetter


@pytest.fixture
def letter(rig: LettersRig) -> DeadLetter:
    rig.set_aside(rig.order("o-1", 7))
    return rig.letters()[0]


def decoded(rig: LettersRig, value: bytes | None) -> Any:
    return rig.contracts.decoder([rig.module.orders]).decode(value)


def test_a_field_that_is_set_goes_on_as_the_same_event(rig: LettersRig, letter: DeadLetter):
    assert rig.call("edit", str(letter.id), "--set", "quantity=3", "--as", "ann").code == 0
    [handed] = rig.handed_in()
    assert decoded(rig, handed.value()) == rig.module.Ordered(order_id="o-1", quantity=3, email="ada@example.org")
    assert (handed.at, handed.key(), handed.headers()) == (letter.at, b"o-1", letter.headers)
    [deed] = rig.deeds()
    assert (deed["letter"], deed["deed"], deed["changed"]) == (str(letter.id), "edit", ["$.quantity"])
    assert "edited by ann" in rig.call("redrive", str(letter.id)).refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "quantity=many"], "Ordered.quantity: Expected `int`, got `str`"),
        (["--set", "quantity=99999999999999999999"], "quantity"),
        (["--set", "quantitee=3"], "there is no 'quantitee'; there is order_id, quantity, email"),
        (["--set", "quantity"], "FIELD=VALUE"),
        (["--set", "quantity.of=3"], "nothing inside"),
        (["--set", "order_id=o-2"], "an event of another key is another event"),
        (["--set", "quantity=7"], "nothing is changed"),
        (["--value-file", "{folder}/missing.json"], "missing.json"),
        (["--value-file", "{folder}/broken.json"], "no JSON"),
        (["--value-file", "{folder}/typo.json"], "Ordered.quantitee: there is no such field"),
        (["--value-file", "{folder}/short.json"], "the field order_id is missing"),
        (["--set", "quantity=3", "--value-file", "x"], "give one of them"),
        (["--set", "quantity=3", "--type", "Nothing"], "carries Ordered, Cancelled"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    rig: LettersRig, letter: DeadLetter, arguments: list[str], said: str
):
    (rig.folder / "broken.json").write_text("{")
    (rig.folder / "typo.json").write_text('{"order_id": "o-1", "quantitee": 3}')
    (rig.folder / "short.json").write_text('{"quantity": 3}')
    refused = rig.call("edit", str(letter.id), *(argument.format(folder=rig.folder) for argument in arguments)).refused
    assert said in refused
    assert rig.handed_in() == rig.deeds() == []


def test_a_whole_new_value_mends_what_nobody_can_read(rig: LettersRig):
    rig.set_aside(*rig.send(raw=[("o-1", b"\x07garbage")]), handler=None)
    [letter] = rig.letters()
    assert "--type" in rig.call("edit", str(letter.id), "--set", "quantity=1").refused
    assert "whole new value" in rig.call("edit", str(letter.id), "--set", "quantity=1", "--type", "Ordered").refused
    (rig.folder / "new.json").write_text('{"order_id": "o-1", "quantity": 2}')
    file = str(rig.folder / "new.json")
    assert (
        "1 would be done"
        in rig.call("edit", str(letter.id), "--type", "Ordered", "--value-file", file, "--dry-run").output
    )
    assert rig.handed_in() == []
    assert rig.call("edit", str(letter.id), "--type", "Ordered", "--value-file", file).code == 0
    [handed] = rig.handed_in()
    assert decoded(rig, handed.value()) == rig.module.Ordered(order_id="o-1", quantity=2)
    assert rig.deeds()[0]["changed"] == ["$"]


def editor(folder: Path, replace: str, by: str) -> str:
    """An editor that replaces text, and keeps what it was shown."""
    script = folder / "editor.py"
    script.write_text(
        "import sys, shutil; p = sys.argv[1]; t = open(p).read(); open(p + '.seen', 'w').write(t)\n"
        f"shutil.copy(p, {str(folder / 'seen.json')!r}); open(p, 'w').write(t.replace({replace!r}, {by!r}))\n"
    )
    import sys

    return f"{sys.executable} {script}"


def test_the_editor_shows_no_personal_data_and_keeps_it(rig: LettersRig, letter: DeadLetter):
    command = editor(rig.folder, '"quantity": 7', '"quantity": 8')
    assert rig.call("edit", str(letter.id), EDITOR=command, VISUAL="").code == 0
    assert json.loads((rig.folder / "seen.json").read_text())["email"] == "••••••"
    [handed] = rig.handed_in()
    assert decoded(rig, handed.value()) == rig.module.Ordered(order_id="o-1", quantity=8, email="ada@example.org")


def test_what_was_typed_into_the_editor_is_not_lost_when_it_does_not_fit(rig: LettersRig, letter: DeadLetter):
    command = editor(rig.folder, '"quantity": 7', '"quantity": "many"')
    refused = rig.call("edit", str(letter.id), EDITOR=command, VISUAL="").refused
    kept = Path(refused.partition("Your text is in ")[2].partition(":")[0])
    assert '"many"' in kept.read_text()
    kept.unlink()
    assert "EDITOR" in rig.call("edit", str(letter.id), EDITOR="", VISUAL="").refused
    assert rig.handed_in() == []
