"""What later events have overtaken is seen when it is handed in, not only when that was planned."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.kafka import Message
from millstream.operate.dlq import work
from millstream.operate.dlq.bulk import Limits, carry_out, redrives
from millstream.operate.dlq.clerk import Done, Person
from millstream.operate.dlq.letter import DeadLetter
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.overtaken import Followers
from millstream.operate.dlq.work import Refused, Work

pytestmark = pytest.mark.slow

ANN = Person("ann@desk", "test")


class Counting:
    """A cluster that counts what is read of each topic."""

    def __init__(self, kafka: Any) -> None:
        self._kafka = kafka
        self.read = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)

    def read_to_end(self, topic: str, *arguments: Any, **options: Any) -> Iterator[list[Message]]:
        for batch in self._kafka.read_to_end(topic, *arguments, **options):
            self.read[topic] += len(batch)
            yield batch


def counting(rig: LettersRig) -> tuple[Office, Counter[str]]:
    office, kafka = rig.office(), Counting(rig.kafka)
    return Office(kafka, office.admin, office.origins, office.audit, office.partitions), kafka.read


def offsets(rig: LettersRig, followers: Followers, letters: list[DeadLetter]) -> dict[str, tuple[int, ...]]:
    found = followers.overtaking(letters)
    return {(letter.key or b"").decode(): found[letter.id].first for letter in letters if letter.id in found}


def test_what_is_overtaken_between_the_transactions_of_a_slow_redrive_is_left(
    rig: LettersRig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("millstream.operate.dlq.bulk.AT_ONCE", 1)
    rig.set_aside(*(rig.order(f"o-{n}") for n in range(3)))
    office = rig.office()
    results = carry_out(office, list(redrives(office, rig.letters(), Limits())), ANN)
    first = next(results)
    assert isinstance(first, Done)
    left = {b"o-0", b"o-1", b"o-2"} - {first.work.letter.key}
    late = rig.order(min(left).decode())
    found = {result.letter.key: result for result in results if isinstance(result, Refused)}
    assert found.keys() == {min(left)}
    assert f"[{late.partition()}] at {late.offset()}." in found[min(left)].detail
    assert {handed.key() for handed in rig.handed_in()} == {first.work.letter.key, max(left)}


@pytest.mark.parametrize("allowed", [False, True])
def test_what_is_overtaken_while_somebody_mends_it_is_left(rig: LettersRig, allowed: bool):
    rig.set_aside(rig.order("o-1"))
    office = rig.office()
    [plan] = redrives(office, rig.letters(), Limits(allow_reorder=allowed))
    assert isinstance(plan, Work)
    rig.order("o-1")
    letter = plan.letter
    mended = work.edit(plan, letter.value or b"", letter.headers, ("quantity",))
    [result] = carry_out(office, [mended], ANN)
    assert isinstance(result, Done) is allowed
    assert len(rig.handed_in()) == len(rig.actions()) == allowed


def test_in_a_transaction_only_what_was_overtaken_is_left_out(rig: LettersRig):
    rig.set_aside(*(rig.order(f"o-{n}") for n in range(3)))
    office = rig.office()
    plans = list(redrives(office, rig.letters(), Limits()))
    rig.order("o-1")
    results = list(carry_out(office, plans, ANN))
    assert [isinstance(result, Done) for result in results] == [plan.letter.key != b"o-1" for plan in plans]
    assert {handed.key() for handed in rig.handed_in()} == {b"o-0", b"o-2"}


def test_followers_are_read_once_however_often_somebody_asks(rig: LettersRig):
    messages = rig.send(*(rig.module.Ordered(order_id=f"o-{n}") for n in range(50)))
    rig.set_aside(*messages)
    office, read = counting(rig)
    letters, followers = rig.letters(), Followers(office)
    assert offsets(rig, followers, letters) == {}
    assert read[rig.orders] <= 50
    read.clear()
    assert offsets(rig, followers, letters[:3]) == {}
    assert read == {}
    key = (letters[7].key or b"").decode()
    late = [rig.order(key).offset(), rig.order(key).offset()]
    assert offsets(rig, followers, letters) == {key: tuple(late)}
    assert offsets(rig, followers, letters[7:8]) == {key: tuple(late)}
    assert read[rig.orders] == 2
    read.clear()
    rig.set_aside(next(message for message in rig.records(rig.orders) if message.offset() == late[0] and
                       message.key() == key.encode()))  # fmt: skip
    assert offsets(rig, followers, letters) == {key: (late[1],)}
    assert read == {rig.dlq: 1}, "a later event that is set aside is noticed, too"


def test_what_follows_a_letter_that_comes_later_of_an_earlier_event_is_found(rig: LettersRig):
    first, second, third = (rig.order("o-1") for _ in range(3))
    rig.set_aside(second)
    followers = Followers(rig.office())
    assert offsets(rig, followers, rig.letters()) == {"o-1": (third.offset(),)}
    rig.set_aside(first)
    letters = rig.letters()
    assert offsets(rig, followers, letters[1:]) == {"o-1": (third.offset(),)}, "the second waits itself"
    followers.keep(set())
    assert offsets(rig, followers, letters) == {"o-1": (third.offset(),)}
