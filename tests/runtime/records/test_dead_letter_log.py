"""What the log says of dead letters: each kind at once, repeats as a count, nothing of what an event holds."""

from typing import Any

import pytest

from millstream.errors import Rejected
from millstream.runtime.records import dead_letter_log as module
from millstream.runtime.records.dead_letter_log import MAX_KINDS, DeadLetterKind, DeadLetterLog

BOOM = DeadLetterKind("payment", "charge", "orders", "ZeroDivisionError")


class Record:
    """What of a message is read."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "orders"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        raise AssertionError("a key may be a person's")

    def value(self) -> bytes:
        raise AssertionError("a value may be a person's")


def charge(card: str) -> None:
    raise ValueError(f"card {card} was refused")


def raised() -> Exception:
    try:
        charge("4000-1234")
    except ValueError as error:
        return error
    raise AssertionError


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.msg for record in caplog.records]  # type: ignore[misc] # structlog hands dictionaries on


def note(log: DeadLetterLog, offset: int, kind: DeadLetterKind = BOOM, error: Exception | None = None) -> None:
    log.note(kind, Record(offset), error or raised(), 3, parked=False)  # type: ignore[arg-type] # what of it is read


def test_a_kind_is_logged_at_once_with_its_place_and_without_what_the_event_says(caplog: pytest.LogCaptureFixture):
    note(DeadLetterLog(), 42)
    [line] = lines(caplog)
    assert line["code"] == "dead_letter"
    assert (line["topic"], line["record"], line["handler"]) == ("orders.dlq", "orders[3]@42", "charge")
    assert (line["error_type"], line["attempts"]) == ("builtins.ValueError", 3)
    assert line["raised_at"] == f"{__file__}:{charge.__code__.co_firstlineno + 1}"
    assert line["remedy"] == "millstream dlq list --topic orders"
    assert "4000-1234" not in str(line)
    assert caplog.records[0].levelname == "ERROR"


def test_repeats_are_one_line_with_their_number_and_the_last_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    log = DeadLetterLog()
    for offset in range(20):
        note(log, offset)
    log.flush()
    assert [line["code"] for line in lines(caplog)] == ["dead_letter"]
    monkeypatch.setattr(module, "REPEATS_EVERY", 0.0)
    log.flush()
    log.flush()
    first, repeats = lines(caplog)
    assert (repeats["code"], repeats["count"], repeats["last_record"]) == ("dead_letters_repeated", 19, "orders[3]@19")
    assert repeats["reason"] == first["reason"] == "ZeroDivisionError"


def test_another_kind_is_logged_at_once_and_the_end_of_a_process_leaves_no_count_untold(
    caplog: pytest.LogCaptureFixture,
):
    log = DeadLetterLog()
    note(log, 1)
    note(log, 2)
    note(log, 3, BOOM._replace(reason="card_refused"), Rejected("card_refused", "of Ann"))
    log.flush(now=True)
    assert [line["code"] for line in lines(caplog)] == ["dead_letter", "dead_letter", "dead_letters_repeated"]
    assert "Ann" not in str(lines(caplog))


def test_reasons_without_end_are_counted_as_one(caplog: pytest.LogCaptureFixture):
    log = DeadLetterLog()
    for number in range(MAX_KINDS + 50):
        note(log, number, BOOM._replace(reason=f"order {number} is odd"))
    log.flush(now=True)
    assert len(lines(caplog)) == MAX_KINDS + 2
    assert (lines(caplog)[-1]["reason"], lines(caplog)[-1]["count"]) == ("(others)", 49)
