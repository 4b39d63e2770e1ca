"""Fetch sessions (KIP-227): a reader names what changes, and hears of what has changed."""

import time
from typing import Any

import pytest

from millstream.testing.wire import Connection, Wire


class Reader:
    """Fetches of one topic by hand, its partitions by number."""

    def __init__(self, clients: Any, topic: str) -> None:
        self.broker: Connection = clients.wire.leader_of(topic)
        self.topic_id = clients.wire.topic_id(topic)

    def fetch(self, session: int, epoch: int, offsets: dict[int, int], *, forget: tuple[int, ...] = (), **more: Any):
        """Ask for these partitions from these offsets."""
        return self.broker.ask("fetch", 16, **self._request(session, epoch, offsets, forget, **more))

    def send(self, session: int, epoch: int, offsets: dict[int, int], **more: Any) -> None:
        self.broker.send("fetch", 16, **self._request(session, epoch, offsets, (), **more))

    def receive(self) -> Any:
        return self.broker.receive("fetch", 16)

    def _request(
        self, session: int, epoch: int, offsets: dict[int, int], forget: tuple[int, ...], **more: Any
    ) -> dict[str, Any]:
        partitions = [
            {"partition": index, "fetch_offset": offset, "partition_max_bytes": more.pop(f"most_{index}", 1 << 20)}
            for index, offset in offsets.items()
        ]
        return {
            "max_wait": 0,
            "min_bytes": 1,
            "max_bytes": 1 << 25,
            "isolation_level": 0,
            "session_id": session,
            "session_epoch": epoch,
            "topics": [{"topic_id": self.topic_id, "partitions": partitions}] if partitions else [],
            "forgotten_topics_data": [{"topic_id": self.topic_id, "partitions": list(forget)}] if forget else [],
            **more,
        }


def told(answer: Any) -> dict[int, int]:
    """The partitions in an answer, with the bytes of records that each has."""
    assert answer.error_code.name == "none"
    return {p.partition_index: len(p.records or b"") for topic in answer.responses for p in topic.partitions}


@pytest.fixture
def topic(clients: Any) -> str:
    return clients.topic(partitions=3, one_leader=True)


@pytest.fixture
def reader(clients: Any, topic: str) -> Reader:
    return Reader(clients, topic)


def test_a_first_fetch_begins_a_session_and_names_every_partition(reader: Reader):
    answer = reader.fetch(0, 0, {0: 0, 1: 0, 2: 0})
    assert answer.session_id > 0
    assert told(answer) == {0: 0, 1: 0, 2: 0}


def test_a_reader_that_wants_no_session_gets_none(reader: Reader):
    assert reader.fetch(0, -1, {0: 0}).session_id == 0


def test_every_session_has_a_number_of_its_own(reader: Reader):
    assert len({reader.fetch(0, 0, {0: 0}).session_id for _ in range(3)}) == 3


def test_nothing_new_is_an_answer_without_partitions(reader: Reader):
    session = reader.fetch(0, 0, {0: 0, 1: 0, 2: 0}).session_id
    for epoch in (1, 2, 3):
        answer = reader.fetch(session, epoch, {})
        assert (answer.session_id, told(answer)) == (session, {})


def test_only_the_partition_with_new_records_is_named(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0, 1: 0, 2: 0}).session_id
    clients.send(topic, "a", partition=1)
    found = told(reader.fetch(session, 1, {}, max_wait=5_000))
    assert list(found) == [1]
    assert found[1] > 0


def test_records_come_again_until_the_reader_moves_on(clients: Any, topic: str, reader: Reader):
    clients.send(topic, "a", partition=0)
    session = reader.fetch(0, 0, {0: 0, 1: 0}).session_id
    assert list(told(reader.fetch(session, 1, {}))) == [0]
    assert list(told(reader.fetch(session, 2, {}))) == [0]
    assert told(reader.fetch(session, 3, {0: 1})) == {}


def test_a_waiting_fetch_in_a_session_is_answered_when_records_come(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0, 1: 0, 2: 0}).session_id
    started = time.monotonic()
    reader.send(session, 1, {}, max_wait=15_000)
    clients.send(topic, "a", partition=2)
    assert list(told(reader.receive())) == [2]
    assert time.monotonic() - started < 14


def test_a_fetch_in_a_session_waits_as_long_as_asked(reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    started = time.monotonic()
    assert told(reader.fetch(session, 1, {}, max_wait=300)) == {}
    assert 0.2 < time.monotonic() - started < 60


def test_a_partition_is_added_to_a_session(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    clients.send(topic, "a", partition=1)
    assert told(reader.fetch(session, 1, {})) == {}
    assert list(told(reader.fetch(session, 2, {1: 0}))) == [1]


def test_a_partition_that_is_added_is_named_once_even_if_empty(reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    assert told(reader.fetch(session, 1, {2: 0})) == {2: 0}
    assert told(reader.fetch(session, 2, {})) == {}


def test_a_forgotten_partition_is_not_named_again(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0, 1: 0}).session_id
    clients.send(topic, "a", partition=0)
    clients.send(topic, "b", partition=1)
    assert list(told(reader.fetch(session, 1, {}, forget=(0,)))) == [1]
    assert list(told(reader.fetch(session, 2, {}))) == [1]


def test_a_session_in_which_nothing_is_left_is_over(reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    answer = reader.fetch(session, 1, {}, forget=(0,))
    assert (answer.session_id, told(answer)) == (0, {})
    assert reader.fetch(session, 2, {0: 0}).error_code.name == "fetch_session_id_not_found"


@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_an_epoch_out_of_turn(reader: Reader, epoch: int):
    session = reader.fetch(0, 0, {0: 0}).session_id
    answer = reader.fetch(session, epoch, {0: 0})
    if epoch == 0:  # begins anew
        assert answer.error_code.name == "none"
        assert answer.session_id not in (0, session)
    else:
        assert answer.error_code.name == "invalid_fetch_session_epoch"
        assert (answer.session_id, list(answer.responses)) == (0, [])


def test_an_epoch_cannot_be_used_twice(reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    assert reader.fetch(session, 1, {}).error_code.name == "none"
    assert reader.fetch(session, 1, {}).error_code.name == "invalid_fetch_session_epoch"
    assert reader.fetch(session, 2, {}).error_code.name == "none"


def test_an_unknown_session_is_refused(reader: Reader):
    assert reader.fetch(1_234_567, 5, {0: 0}).error_code.name == "fetch_session_id_not_found"


def test_a_session_ends_with_the_final_epoch(reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    assert reader.fetch(session, -1, {0: 0}).session_id == 0
    assert reader.fetch(session, 1, {}).error_code.name == "fetch_session_id_not_found"


def test_a_session_goes_on_over_another_connection(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    clients.send(topic, "a", partition=0)
    with Wire(clients.cluster.bootstrap) as wire:
        reader.broker = wire.leader_of(topic)
        assert list(told(reader.fetch(session, 1, {}, max_wait=5_000))) == [0]


def test_a_session_keeps_to_topic_ids_or_names(clients: Any, topic: str, reader: Reader):
    session = reader.fetch(0, 0, {0: 0}).session_id
    asked = {"max_wait": 0, "min_bytes": 1, "isolation_level": 0, "session_id": session, "session_epoch": 1}
    answer = reader.broker.ask("fetch", 12, **asked, topics=[], forgotten_topics_data=[], replica_id=-1)
    assert answer.error_code.name == "fetch_session_topic_id_error"


def test_an_error_in_one_partition_is_told_every_time(reader: Reader):
    session = reader.fetch(0, 0, {0: 0, 1: 9}).session_id
    for epoch in (1, 2):
        answer = reader.fetch(session, epoch, {})
        (partition,) = answer.responses[0].partitions
        assert (partition.partition_index, partition.error_code.name) == (1, "offset_out_of_range")


def test_a_deleted_topic_is_told_in_the_session(clients: Any, topic: str, reader: Reader, wait: Any):
    session = reader.fetch(0, 0, {0: 0}).session_id
    clients.admin.delete_topics([topic])[topic].result(20)
    epochs = iter(range(1, 10_000))
    answer = wait(lambda: (a := reader.fetch(session, next(epochs), {}, max_wait=100)).responses and a, "an error")
    assert answer.responses[0].partitions[0].error_code.name in ("unknown_topic_id", "unknown_topic_or_partition")


def test_records_that_do_not_fit_come_later(clients: Any, topic: str, reader: Reader):
    for partition in (0, 1, 2):
        clients.send(topic, "x" * 1_000, partition=partition)
    first = reader.fetch(0, 0, {0: 0, 1: 0, 2: 0}, max_bytes=100)
    assert [index for index, size in told(first).items() if size] == [0]
    turns = [told(reader.fetch(first.session_id, epoch, {}, max_bytes=100)) for epoch in range(1, 7)]
    served = [next(index for index, size in turn.items() if size) for turn in turns]
    assert sorted(served[:3]) == sorted(served[3:]) == [0, 1, 2]


def test_a_moved_log_start_is_told(clients: Any, topic: str, reader: Reader):
    clients.send(topic, "a", "b", partition=0)
    session = reader.fetch(0, 0, {0: 2}).session_id
    assert told(reader.fetch(session, 1, {})) == {}
    partitions = [{"partition_index": 0, "offset": 1}]
    asked = {"topics": [{"name": topic, "partitions": partitions}], "timeout": 5_000}
    clients.wire.leader_of(topic).ask("delete_records", 2, **asked)
    answer = reader.fetch(session, 2, {}, max_wait=2_000)
    assert answer.responses[0].partitions[0].log_start_offset == 1


def test_committed_readers_hear_of_a_partition_when_its_transaction_ends(clients: Any, topic: str, reader: Reader):
    producer = clients.transactional()
    producer.begin_transaction()
    clients.send(topic, "a", partition=0, producer=producer)
    session = reader.fetch(0, 0, {0: 0}, isolation_level=1).session_id
    assert told(reader.fetch(session, 1, {}, isolation_level=1)).get(0, 0) == 0
    producer.commit_transaction(10)
    found = told(reader.fetch(session, 2, {}, isolation_level=1, max_wait=10_000))
    assert found[0] > 0
