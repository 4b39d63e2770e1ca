"""`KeyQueues`: order within a key, time between keys, and a store that always agrees."""

from hypothesis import given
from hypothesis import strategies as st

from millstream.runtime.task.key_queues import KeyQueues
from millstream.runtime.task.parked import ParkedEvent

KEYS = (b"a", b"b", b"c")


class Dictionary:
    """A store of parked events in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], ParkedEvent] = {}

    def put(self, event: ParkedEvent) -> None:
        self.kept[event.at] = event

    def drop(self, event: ParkedEvent) -> None:
        del self.kept[event.at]


def parked(offset: int, key: bytes, *, attempts: int = 0, due_at: float | None = None) -> ParkedEvent:
    return ParkedEvent(at=("t", 0, offset), stamp=(1, 0), raw_key=key, attempts=attempts, due_at=due_at)


def test_a_head_is_tried_when_it_is_due_and_lets_the_next_one_go_at_once():
    queues = KeyQueues(Dictionary())
    queues.add(parked(5, b"a", attempts=1, due_at=10.0))
    queues.add(parked(7, b"a"))
    queues.add(parked(6, b"b", attempts=1, due_at=9.0))
    assert queues.next_due() == 9.0
    assert queues.due(8.9) is None
    head = queues.due(9.0)
    assert head is not None and head.key() == b"b"
    queues.retry(parked(6, b"b", attempts=2, due_at=20.0))
    assert queues.due(9.9) is None
    head = queues.due(10.0)
    assert head is not None and head.offset() == 5
    queues.leave(head)
    following = queues.due(10.0)
    assert following is not None and following.offset() == 7
    queues.leave(following)
    assert ("t", 0, b"a") not in queues and ("t", 0, b"b") in queues


def test_a_key_that_is_held_is_never_due_until_its_head_is_let_go():
    store = Dictionary()
    for event in (parked(2, b"a"), parked(1, b"a", attempts=3)):
        store.put(event)
    queues = KeyQueues(store, store.kept.values())
    assert (queues.next_due(), queues.held, queues.keys, len(queues)) == (None, 1, 1, 2)
    head = queues.head(("t", 0, b"a"))
    assert head is not None and head.held and head.offset() == 1
    queues.leave(head)
    assert (queues.next_due(), queues.held) == (0.0, 0)


def test_an_older_event_handed_in_again_goes_before_those_that_wait():
    queues = KeyQueues(Dictionary(), [parked(8, b"a", attempts=1, due_at=50.0)])
    queues.add(parked(3, b"a"))
    head = queues.due(0.0)
    assert head is not None and head.offset() == 3


def test_behind_an_older_event_a_held_one_can_be_put_back_or_dropped_in_its_place():
    for by_a_person in (KeyQueues.retry, KeyQueues.leave):
        store = Dictionary()
        queues = KeyQueues(store)
        queues.add(parked(5, b"a", attempts=3))
        queues.add(parked(7, b"a"))
        queues.add(parked(3, b"a"))
        assert queues.find(parked(5, b"a")) == parked(5, b"a", attempts=3)
        assert queues.find(parked(4, b"a")) is queues.find(parked(8, b"a")) is queues.find(parked(5, b"b")) is None
        by_a_person(queues, parked(5, b"a"))
        done: list[int] = []
        while (head := queues.due(0.0)) is not None:
            done.append(head.offset())
            queues.leave(head)
        assert done == ([3, 5, 7] if by_a_person is KeyQueues.retry else [3, 7])
        assert (len(queues), store.kept, queues.hold(b"a")) == (0, {}, False)


def test_a_record_that_is_delivered_once_more_leaves_what_is_parked_of_it_as_it_is():
    store = Dictionary()
    queues = KeyQueues(store)
    held = parked(5, b"a", attempts=3)
    queues.add(held)
    queues.add(parked(5, b"a"))
    assert (queues.head(("t", 0, b"a")), queues.next_due(), len(queues), store.kept) == (held, None, 1, {held.at: held})


def test_partitions_that_went_away_are_forgotten_and_stay_in_the_store():
    store = Dictionary()
    queues = KeyQueues(store)
    queues.add(parked(1, b"a", attempts=1, due_at=1.0))
    queues.drop("t", 0)
    assert (len(queues), queues.next_due(), len(store.kept)) == (0, None, 1)


STEPS = ("arrive", "arrive_again", "succeed", "fail", "give_up", "hand_in_an_older", "hand_in", "discard", "begin_anew")
actions = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from(KEYS), st.integers(min_value=0)),
    min_size=20,
    max_size=60,
)


@given(actions)
def test_whatever_happens_each_key_is_done_in_order_and_the_store_agrees(steps: list[tuple[str, bytes, int]]):
    store = Dictionary()
    queues = KeyQueues(store)
    waiting: dict[bytes, dict[int, ParkedEvent]] = {key: {} for key in KEYS}
    now = 0.0

    def put(event: ParkedEvent) -> ParkedEvent:
        waiting[event.key()][event.offset()] = event
        return event

    for offset, (step, key, number) in enumerate(steps):
        now += 1.0
        mine = waiting[key]
        head = mine[min(mine)] if mine else None
        one = sorted(mine)[number % len(mine)] if mine else None  # a person may mean any of them
        if step == "begin_anew":
            queues = KeyQueues(store, store.kept.values())
        elif step == "arrive":
            # Between two that arrive there is room for an older one of each key, to be handed in.
            queues.add(put(parked(4 * offset, key) if mine else parked(4 * offset, key, attempts=1, due_at=now + 3)))
        elif step == "hand_in_an_older" and mine:
            older = 4 * (number % (offset + 1)) + 1 + KEYS.index(key)
            if queues.find(parked(older, key)) is None:
                queues.add(put(parked(older, key)))
        elif step == "arrive_again" and one is not None:
            queues.add(parked(one, key))
        elif step == "hand_in" and one is not None:
            queues.retry(put(parked(one, key)))
        elif step == "discard" and one is not None:
            queues.leave(mine.pop(one))
        elif step == "give_up" and head is not None:
            queues.retry(put(parked(head.offset(), key, attempts=head.attempts + 1)))
        elif step in ("succeed", "fail") and (due := queues.due(now)) is not None:
            theirs = waiting[due.key()]
            assert due == theirs[min(theirs)], "what is due is the first of its key"
            if step == "succeed":
                queues.leave(theirs.pop(due.offset()))
            else:
                queues.retry(put(parked(due.offset(), due.key(), attempts=due.attempts + 1, due_at=now + 2)))

        assert queues.by_key == {("t", 0, key): [w[o] for o in sorted(w)] for key, w in waiting.items() if w}
        assert store.kept == {event.at: event for w in waiting.values() for event in w.values()}
        assert all(queues.find(event) == event for event in store.kept.values())
        heads = [w[min(w)] for w in waiting.values() if w]
        assert (len(queues), queues.keys, queues.held) == (
            len(store.kept),
            len(heads),
            sum(head.held for head in heads),
        )
        assert [queues.hold(key) for key in KEYS] == [bool(waiting[key]) for key in KEYS]
        assert queues.next_due() == min((head.due_at or 0.0 for head in heads if not head.held), default=None)
