"""One partition of a store in memory: what commits, and the two ways back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.contracts import codec_for
from millstream.declare import Store, Value
from millstream.errors import EncodeError
from millstream.state import MemoryStore, memory


class Count(Value, namespace="test"):
    number: int


class Other(Value, namespace="test"):
    number: int


STORE = Store("counts", Count)
CODEC = codec_for(Count, 7)


def fresh() -> MemoryStore[Count]:
    return MemoryStore(STORE, CODEC.encode, CODEC.decode)


def contents(store: MemoryStore[Count]) -> dict[str, int]:
    return {key: value.number for key, value in store.items()}


keys = st.sampled_from("abcd")
writes = st.lists(st.tuples(keys, st.none() | st.integers(0, 9)), max_size=6)
events = st.lists(st.tuples(writes, st.booleans()), max_size=6)
transactions = st.lists(st.tuples(events, st.booleans()), max_size=6)


@given(restored=st.dictionaries(keys, st.integers(0, 9)), history=transactions)
def test_it_is_a_dict_whose_events_and_transactions_can_be_taken_back(restored, history):
    store, log = fresh(), dict(restored)
    for key, number in restored.items():
        store.restore(key, CODEC.encode(Count(number=number)))
    for transaction, committed in history:
        model = dict(log)
        for event, succeeds in transaction:
            after = dict(model)
            for key, number in event:
                if number is None:
                    store.delete(key)
                    after.pop(key, None)
                else:
                    store.put(key, Count(number=number))
                    after[key] = number
                assert contents(store) == after
            if succeeds:
                store.keep_event()
                model = after
            else:
                store.undo_event()
            assert contents(store) == model
        changes = {key: raw and CODEC.decode(raw).number for key, raw in store.changes().items()}
        if committed:
            # What the changelog gets leads from the old state to the new one.
            replayed = {**log, **changes}
            assert {key: number for key, number in replayed.items() if number is not None} == model
            store.commit()
            log = model
        else:
            store.rollback()
        assert not store.changes()
        assert contents(store) == log


def test_a_value_that_does_not_fit_is_refused_where_it_is_put():
    store = fresh()
    with pytest.raises(EncodeError, match=r"Count\.number"):
        store.put("a", Count(number=1 << 70))
    with pytest.raises(TypeError, match="keeps Count, not Other"):
        store.put("a", Other(number=1))  # pyright: ignore[reportArgumentType] that is the point
    assert store.get("a") is None
    assert not store.changes()


def test_for_a_handler_in_a_test_it_needs_nothing_running():
    store = memory(STORE)
    store.put("a", Count(number=1))
    store.delete("b")
    assert contents(store) == {"a": 1}
    assert len(store) == 1
