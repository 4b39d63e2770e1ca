"""Ids: derived ones are uuid5, whatever the input's id looks like."""

from uuid import NAMESPACE_URL, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from millstream.contracts import derived_id, edge_id, position_id


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 10_000))
def test_derived_ids_are_uuid5(input_id: UUID, handler: str, ordinal: int) -> None:
    expected = str(uuid5(input_id, f"{handler}/{ordinal}"))
    assert derived_id(str(input_id), handler, ordinal) == expected
    assert derived_id(str(input_id).upper(), handler, ordinal) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_foreign_ids_are_mapped_first(input_id: str) -> None:
    assert derived_id(input_id, "h", 1) == str(uuid5(uuid5(NAMESPACE_URL, input_id), "h/1"))


def test_foreign_ids_that_look_like_ours() -> None:
    for input_id in ("0190a1b2 c3d4 7e5f 8a9b 0c1d2e3f4a5b", "٠" * 32, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5"):
        assert derived_id(input_id, "h", 0) == str(uuid5(uuid5(NAMESPACE_URL, input_id), "h/0"))


def test_edge_ids_are_ordered_in_time() -> None:
    ids = [edge_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {UUID(id).version for id in ids} == {7}


def test_positions() -> None:
    assert position_id("t", 1, 2, 3) == position_id("t", 1, 2, 3)
    others = [("t", 2, 1, 3), ("u", 1, 2, 3), ("t", 1, 2, 4)]
    assert len({position_id("t", 1, 2, 3), *(position_id(*other) for other in others)}) == 4
