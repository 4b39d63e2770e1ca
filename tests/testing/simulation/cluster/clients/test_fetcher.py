"""The state of a simulated consumer's partitions."""

from millstream.testing.simulation.cluster.clients.fetcher import FetchState


def test_what_was_requested_before_a_revocation_is_not_taken_after_the_next_assignment():
    assert FetchState(26).epoch != FetchState(26).epoch
