"""Codes of errors and log events: each has one, literally, in snake_case, and the page that lists them is current."""

from collections import Counter, defaultdict

import pytest
from tests.codes import CODE, PAGE, LogCall, code_of, error_classes, log_calls, page


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_an_error_class_declares_its_own_code(error: type[BaseException]):
    assert CODE.fullmatch(code_of(error)), "give the class a code: ClassVar[str], in snake_case"


def test_no_two_error_classes_have_the_same_code():
    counts = Counter(code_of(error) for error in error_classes())
    assert max(counts.values()) == 1, counts.most_common(1)


CALLS = log_calls()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.file}:{call.line}")
def test_a_log_call_has_a_code(call: LogCall):
    assert call.code and CODE.fullmatch(call.code), 'give it code="…" (extra={"code": "…"} with a standard logger)'


def test_log_calls_of_one_room_that_share_a_code_say_the_same():
    words = defaultdict[tuple[str, str | None], set[str]](set)
    for call in CALLS:
        words[call.room, call.code].add(call.words)
    assert not {key: texts for key, texts in words.items() if len(texts) > 1 and key not in ONE_EVENT}


ONE_EVENT = {
    ("local", "torn_tail_cut"),  # of a log, and of the coordinator's journal
    ("runtime", "too_much_parked"),  # by Kafka and SQL handlers, and by effects
}


def test_the_page_is_current():
    assert PAGE.read_text() == page(), "run `make codes`"
