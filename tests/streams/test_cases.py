"""Kafka Streams' answers, record by record: ours are the same, except where it contradicts its own promise."""

import json
from pathlib import Path
from typing import Any

import pytest

from millstream.testing import streams_cases
from millstream.testing.streams_cases import by_key, expected, run

FILE = Path(__file__).parents[3] / "shared" / "data" / "streams-cases.json"
CASES: dict[str, dict[str, Any]] = (
    {case["name"]: case for case in json.loads(FILE.read_text())["cases"]} if FILE.exists() else {}
)
pytestmark = pytest.mark.skipif(not CASES, reason=f"Kafka Streams' answers are not at {FILE}")
FLAWS = {name for name, case in CASES.items() if "flaw" in case}
LATER = {"ss-left-grace"}
"""Cases whose outputs come after another input: an unmatched record waits for its grace, too."""
LATE_INNER = {"ss-inner-bounds", "ss-inner-asymmetric", "ss-left-grace"}
"""Cases where we count records as late that Kafka Streams stores."""


def outputs(name: str) -> list[list[tuple[Any, ...]]]:
    """Key, window, value and time of what each input brings out."""
    return [[one[1:] for one in some] for some in run(CASES[name])[0]]


@pytest.mark.parametrize("name", sorted(CASES.keys() - FLAWS))
def test_answers_are_those_of_kafka_streams(name: str):
    found, dropped = run(CASES[name])
    wanted = expected(CASES[name])
    assert by_key(found) == by_key(wanted)
    if name not in LATER:
        assert found == wanted
    if name not in LATE_INNER:
        assert dropped == CASES[name]["dropped"]


def test_each_flaw_has_a_test():
    assert {
        "session-late-edge",
        "close-default-retention-jump",
        "ss-inner-late-still-joins",
        "ss-left-out-of-order-within-grace",
        "ss-outer-late",
        "st-versioned-grace-history-lost",
    } == FLAWS


def test_a_gap_is_the_same_whatever_other_keys_did():
    found = outputs("session-late-edge")
    assert found[2:4] == [
        [("k", [1000, 1000], None, 1000), ("k", [1000, 11000], "1,2", 11000)],
        [("k", [1000, 11000], None, 11000), ("k", [1000, 11000], "1,2,3", 11000)],
    ]


def test_no_window_is_lost_when_time_jumps():
    assert outputs("close-default-retention-jump") == [
        [],
        [("k", [0, 10000], "1", 1000)],
        [("k", [10000, 20000], "1", 11000)],
        [("k", [30000, 40000], "1", 32000)],
    ]


def test_late_records_of_an_inner_join_are_dropped_on_both_sides():
    found, dropped = run(CASES["ss-inner-late-still-joins"])
    assert not [one for some in found for one in some]
    assert dropped == 4


def test_a_left_record_waits_for_its_match_within_the_grace():
    found = outputs("ss-left-out-of-order-within-grace")
    assert found == [
        [],
        [],
        [("k", None, "A+a", 89999)],
        [("k", None, "B+a", 90000)],
        [("k", None, "A+b", 95000), ("k", None, "B+b", 95000)],
    ]


def test_what_came_out_unmatched_is_never_joined():
    assert [one for some in outputs("ss-outer-late") for one in some] == [
        ("k", None, "null+a", 50000),
        ("k", None, "B+null", 60000),
        ("k", None, "null+b", 60000),
        ("k", None, "A+null", 100000),
    ]


def test_history_reaches_back_to_records_that_wait_for_it():
    assert outputs("st-versioned-grace-history-lost")[-1] == [("k", None, "B+v1", 8000), ("k", None, "C+v1", 9000)]


def test_the_command_tells_passed_and_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert streams_cases.main([str(FILE)]) == 0
    assert capsys.readouterr().out == f"{len(CASES) - len(FLAWS)} passed, 0 failed\n"
    wrong = {**CASES["count-null-value"], "outputs": []}
    (tmp_path / "cases.json").write_text(json.dumps({"cases": [wrong, CASES["merge-two"]]}))
    assert streams_cases.main([str(tmp_path / "cases.json")]) == 1
    told = capsys.readouterr().out
    assert told.startswith("FAILED count-null-value\n") and told.endswith("1 passed, 1 failed\n")
