"""KafkaJS, unmodified."""

from collections.abc import Callable
from typing import Any

import pytest

from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.real


def test_a_round_of_admin_produce_group_and_transactions(kafkajs: Callable[..., Any], cluster: Cluster, topic: str):
    found = kafkajs(cluster.bootstrap, topic)
    assert (found["created"], found["retention"], found["baseOffset"]) == (True, "600000", "0")
    assert found["values"] == ["a", "b", "c", "kept"]
    assert found["sent"] == "3"
    assert int(found["read"]) >= 6  # behind the marker of the last transaction, or before it
    assert (found["group"], found["left"]) == ("Empty", False)
