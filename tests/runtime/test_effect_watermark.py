"""Positions of a partition whose events end in any order: over any number of lives, each event is done once."""

import random

import pytest

from millstream.runtime.effect.watermark import MAX_DONE, Watermark


@pytest.mark.parametrize("seed", range(40))
def test_over_many_lives_nothing_is_done_twice_or_passed_over(seed: int):
    chance = random.Random(seed)
    at, offsets = chance.randrange(5), []
    for _ in range(60):
        offsets.append(at)
        at += chance.choice([1, 1, 2, 7])  # gaps are transaction markers, or what compaction removed
    done: set[int] = set()
    committed: tuple[int | None, str] = (None, "")
    for _ in range(30):
        partition = Watermark(*committed)
        polled = [offset for offset in offsets if offset >= (committed[0] or 0)][: chance.randrange(1, 40)]
        in_hand = []
        for offset in polled:
            to_do = partition.take(offset)
            assert to_do == (offset not in done)
            if to_do:
                in_hand.append(offset)
        chance.shuffle(in_hand)
        for _ in range(chance.randrange(4)):
            finished = {in_hand.pop() for _ in range(min(len(in_hand), chance.randrange(1, 6)))}
            committed = partition.progress(finished)
            partition.finish(finished)
            done |= finished
    assert all(offset in done for offset in offsets if offset < (committed[0] or 0))


def test_everything_finished_leaves_nothing_to_say():
    partition = Watermark(None)
    for offset in range(100):
        partition.take(offset)
    assert partition.progress(set(range(100))) == (100, "")


def test_gaps_between_unfinished_events_cost_nothing():
    partition = Watermark(None)
    for offset in range(0, 100, 2):
        partition.take(offset)
    assert partition.progress(set()) == (0, "")
    assert partition.progress({50}) == (0, "49,3")


def test_what_a_broker_would_not_keep_waits():
    partition = Watermark(0)
    offsets = range(0, 4_000_000, 1_000)
    for offset in offsets:
        partition.take(offset)
    every_second = set(offsets[1::2])
    assert len(partition.progress(every_second)[1]) > MAX_DONE
    fitting = partition.fitting(every_second)
    assert fitting < every_second
    assert max(fitting) < min(every_second - fitting)
    assert len(partition.progress(fitting)[1]) <= MAX_DONE
    assert partition.fitting(set(offsets)) == set(offsets)


def test_what_is_done_beyond_the_offset_is_passed_on():
    partition = Watermark(0, "1,2")
    partition.take(0)
    assert partition.progress(set()) == (0, "1,2")
    assert [offset for offset in range(5) if Watermark(0, "1,2").take(offset)] == [0, 3, 4]


@pytest.mark.parametrize("foreign", ["", "host-1", "x,1", "1,2,x", "{}"])
def test_what_is_no_run_of_numbers_says_nothing(foreign: str):
    assert Watermark(5, foreign).take(6)
