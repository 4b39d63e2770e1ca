"""The check of words: it finds each kind of old name, lets ordinary ones be, and the source has none."""

from pathlib import Path

import pytest
from tests.words import findings, in_fields, in_help, in_names, in_prose


def test_the_source_has_no_old_words():
    assert not [str(found) for found in findings()]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("class KafkaPlace: ...", 1),
        ("class Work: ...", 1),
        ("def set_aside(): ...", 1),
        ("def redrive(letter): ...", 1),
        ("\nlanes = {}", 2),
        ("class A:\n    def __init__(self):\n        self._kept = 1", 3),
        ("for clerk in (): ...", 1),
        ("import x as tally", 1),
    ],
)
def test_an_old_name_is_found_where_it_is_defined(tmp_path: Path, source: str, line: int):
    file = tmp_path / "module.py"
    file.write_text(source)
    [found] = in_names(file)
    assert (found.file, found.line) == (file, line)
    assert ": write " in str(found)


def test_so_is_the_name_of_a_file(tmp_path: Path):
    file = tmp_path / "telling.py"
    file.write_text("")
    assert [found.text for found in in_names(file)] == ["telling"]


def test_prose_names_who_acts(tmp_path: Path):
    file = tmp_path / "module.py"
    file.write_text('"""Wait until somebody answers."""\nx = 1  # Nobody else\ny = "the owner"\n')
    assert [(found.line, found.text) for found in in_prose(file)] == [(1, "somebody"), (2, "Nobody")]


@pytest.mark.parametrize(
    "source",
    [
        "dead_letter = DeadLetterId",
        "class Worker: ...",
        "step = 1",
        "always = personal = almost = 1",
        "from elsewhere import Place\nx = Place()",
    ],
)
def test_other_names_are_left_alone(tmp_path: Path, source: str):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert not list(in_names(file))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('typer.Option("--most", help="Stop there.")', ["--most"]),
        ('typer.Argument(help="Letters as `list` shows them.")', ["Letters"]),
        ('typer.Option("--x", help="Events that were handed in as often.")', ["handed in"]),
        ('def show():\n    """Show one letter."""', ["letter"]),
        ('def show():\n    """Show one dead letter."""', []),
    ],
)
def test_help_texts(tmp_path: Path, source: str, words: list[str]):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert [found.text for found in in_help(file)] == words


def test_words_of_the_wire(tmp_path: Path):
    file = tmp_path / "metrics.py"
    file.write_text('REDRIVES = Counter("millstream_redrives", "Redrives.", ["service", "deed"])')
    assert [(found.text, found.instead) for found in in_fields(file)] == [("'deed'", "action")]
