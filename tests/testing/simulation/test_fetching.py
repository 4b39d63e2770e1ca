"""What a simulated consumer keeps of its partitions."""

from millstream.testing.simulation.fetching import Place


def test_what_was_asked_for_before_a_partition_went_is_not_taken_after_it_came_back():
    assert Place(26).turn != Place(26).turn
