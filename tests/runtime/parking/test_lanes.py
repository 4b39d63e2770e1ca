"""`Lanes`: order within a key, time between keys, and a shelf that always agrees."""

from hypothesis import given
from hypothesis import strategies as st

from millstream.runtime.parking import Lanes, ParkedEvent, lane_of

KEYS = (b"a", b"b", b"c")


class Dictionary:
    """A shelf that keeps what it is told."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], ParkedEvent] = {}

    def put(self, event: ParkedEvent) -> None:
        self.kept[event.at] = event

    def drop(self, event: ParkedEvent) -> None:
        del self.kept[event.at]


def parked(offset: int, key: bytes, *, attempts: int = 0, due_at: float | None = None) -> ParkedEvent:
    return ParkedEvent(at=("t", 0, offset), stamp=(1, 0), raw_key=key, attempts=attempts, due_at=due_at)


def test_a_head_is_tried_when_it_is_due_and_lets_the_next_one_go_at_once():
    lanes = Lanes(Dictionary())
    lanes.add(parked(5, b"a", attempts=1, due_at=10.0))
    lanes.add(parked(7, b"a"))
    lanes.add(parked(6, b"b", attempts=1, due_at=9.0))
    assert lanes.next_due() == 9.0
    assert lanes.due(8.9) is None
    head = lanes.due(9.0)
    assert head is not None and head.key() == b"b"
    lanes.retry(parked(6, b"b", attempts=2, due_at=20.0))
    assert lanes.due(9.9) is None
    head = lanes.due(10.0)
    assert head is not None and head.offset() == 5
    lanes.leave(head)
    following = lanes.due(10.0)
    assert following is not None and following.offset() == 7
    lanes.leave(following)
    assert ("t", 0, b"a") not in lanes and ("t", 0, b"b") in lanes


def test_a_key_that_is_held_is_never_due_until_its_head_is_let_go():
    shelf = Dictionary()
    for event in (parked(2, b"a"), parked(1, b"a", attempts=3)):
        shelf.put(event)
    lanes = Lanes(shelf, shelf.kept.values())
    assert (lanes.next_due(), lanes.held, lanes.keys, len(lanes)) == (None, 1, 1, 2)
    head = lanes.head(("t", 0, b"a"))
    assert head is not None and head.held and head.offset() == 1
    lanes.leave(head)
    assert (lanes.next_due(), lanes.held) == (0.0, 0)


def test_an_older_event_handed_in_again_goes_before_those_that_wait():
    lanes = Lanes(Dictionary(), [parked(8, b"a", attempts=1, due_at=50.0)])
    lanes.add(parked(3, b"a"))
    head = lanes.due(0.0)
    assert head is not None and head.offset() == 3


def test_partitions_that_went_away_are_forgotten_and_stay_on_the_shelf():
    shelf = Dictionary()
    lanes = Lanes(shelf)
    lanes.add(parked(1, b"a", attempts=1, due_at=1.0))
    lanes.drop("t", 0)
    assert (len(lanes), lanes.next_due(), len(shelf.kept)) == (0, None, 1)


actions = st.lists(
    st.tuples(st.sampled_from(("arrive", "succeed", "fail", "give_up", "begin_anew")), st.sampled_from(KEYS)),
    max_size=60,
)


@given(actions)
def test_whatever_happens_each_key_is_done_in_order_and_the_shelf_agrees(steps: list[tuple[str, bytes]]):
    shelf = Dictionary()
    lanes = Lanes(shelf)
    done: dict[bytes, list[int]] = {key: [] for key in KEYS}
    now = 0.0
    for offset, (step, key) in enumerate(steps):
        now += 1.0
        at = ("t", 0, key)
        head = lanes.head(at)
        if step == "arrive":
            lanes.add(parked(offset, key) if at in lanes else parked(offset, key, attempts=1, due_at=now + 3))
        elif step == "begin_anew":
            lanes = Lanes(shelf, shelf.kept.values())
        elif head is not None and step == "give_up":
            lanes.retry(parked(head.offset(), key, attempts=head.attempts + 1))
        elif head is not None and not head.held and (due := lanes.due(now)) is not None:
            if step == "succeed":
                done[due.key()].append(due.offset())
                lanes.leave(due)
            else:
                lanes.retry(parked(due.offset(), due.key(), attempts=due.attempts + 1, due_at=now + 2))
        assert len(lanes) == len(shelf.kept)
        assert all(lane_of(event) in lanes for event in shelf.kept.values())
    assert all(offsets == sorted(offsets) for offsets in done.values())
    heads = [lanes.head(("t", 0, key)) for key in KEYS]
    waiting = [head for head in heads if head is not None and not head.held]
    assert (lanes.next_due() is not None) == bool(waiting)
    if waiting:
        assert lanes.next_due() == min(head.due_at or 0.0 for head in waiting)
