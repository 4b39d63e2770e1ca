"""Consumer groups by hand: what the coordinator refuses, and with which code."""

import struct
from typing import Any

import pytest

from millstream.testing.wire import Wire

JOINING = {"session_timeout": 10_000, "rebalance_timeout": 10_000, "protocol_type": "consumer"}
# Version 0 of the consumer protocol: no topics, no user data. Apache Kafka reads it, so it has to be well-formed.
SUBSCRIPTION = struct.pack(">hii", 0, 0, -1)
RANGE = [{"name": "range", "metadata": SUBSCRIPTION}]


class Member:
    """One member that speaks the protocol by hand over the coordinator's connection."""

    def __init__(self, clients: Any, group: str, instance: str | None = None) -> None:
        self.broker = clients.wire.coordinator_of_group(group)
        self.group = {"group_id": group}
        self.instance = {"group_instance_id": instance}
        self.id = ""
        self.generation = -1

    def join(self, protocols: Any = RANGE, **changed: Any) -> Any:
        asked = {**self.group, **self.instance, **JOINING, "member_id": self.id, "protocols": protocols, **changed}
        answer = self.broker.ask("join_group", 5, **asked)
        if answer.error_code.name == "member_id_required" and not self.id:
            self.id = answer.member_id
            return self.join(protocols, **changed)
        if answer.error_code.name == "none":
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def sync(self, assignments: Any = (), **changed: Any) -> Any:
        return self.broker.ask("sync_group", 3, **self._identity(**changed), assignments=list(assignments))

    def lead(self) -> None:
        """Join as the only member and hand oneself the assignment."""
        assert self.join().error_code.name == "none"
        synced = self.sync([{"member_id": self.id, "assignment": b"mine"}])
        assert (synced.error_code.name, synced.assignment) == ("none", b"mine")

    def heartbeat(self, **changed: Any) -> str:
        return self.broker.ask("heartbeat", 3, **self._identity(**changed)).error_code.name

    def leave(self) -> str:
        return self.broker.ask("leave_group", 1, **self.group, member_id=self.id).error_code.name

    def commit(self, topic: str, offset: int = 1, **changed: Any) -> str:
        identity = self._identity(**changed)
        identity["generation_id_or_member_epoch"] = identity.pop("generation_id")
        partition = {"partition_index": 0, "committed_offset": offset, "committed_metadata": ""}
        answer = self.broker.ask("offset_commit", 8, **identity, topics=[{"name": topic, "partitions": [partition]}])
        return answer.topics[0].partitions[0].error_code.name

    def _identity(self, **changed: Any) -> dict[str, Any]:
        identity = {"member_id": self.id, "generation_id": self.generation}
        return {**self.group, **self.instance, **identity, **changed}


@pytest.fixture
def member(clients: Any) -> Any:
    """Makes members of one group of this test's own."""
    group = clients.name("g")
    return lambda instance=None: Member(clients, group, instance)


def test_the_first_join_is_given_a_member_id_to_come_back_with(clients: Any, member: Any):
    newcomer = member()
    asked = {**newcomer.group, **JOINING, "member_id": "", "protocols": RANGE}
    answer = newcomer.broker.ask("join_group", 5, **asked)
    assert answer.error_code.name == "member_id_required"
    assert answer.member_id


def test_a_member_leads_the_group_it_is_alone_in(member: Any):
    alone = member()
    answer = alone.join()
    assert (answer.leader, answer.protocol_name, answer.generation_id) == (alone.id, "range", 1)
    assert [m.member_id for m in answer.members] == [alone.id]
    assert alone.sync([{"member_id": alone.id, "assignment": b"all"}]).assignment == b"all"
    assert alone.heartbeat() == "none"


def test_a_foreign_member_id_is_unknown(member: Any):
    known = member()
    known.lead()
    assert known.heartbeat(member_id="stranger") == "unknown_member_id"
    assert known.sync(member_id="stranger").error_code.name == "unknown_member_id"
    assert known.join(member_id="stranger").error_code.name == "unknown_member_id"
    assert (
        known.broker.ask("leave_group", 1, **known.group, member_id="stranger").error_code.name == "unknown_member_id"
    )


def test_a_generation_of_the_past_or_future_is_refused(clients: Any, member: Any):
    known, topic = member(), clients.topic()
    known.lead()
    for generation in (known.generation - 1, known.generation + 1):
        assert known.heartbeat(generation_id=generation) == "illegal_generation"
        assert known.sync(generation_id=generation).error_code.name == "illegal_generation"
        assert known.commit(topic, generation_id=generation) == "illegal_generation"


def test_a_group_without_members_knows_nobody(clients: Any, member: Any):
    nobody, topic = member(), clients.topic()
    assert nobody.heartbeat(member_id="m", generation_id=1) == "unknown_member_id"
    assert nobody.commit(topic, member_id="m", generation_id=1) in ("illegal_generation", "unknown_member_id")


def test_offsets_without_a_group_membership_are_taken_only_while_the_group_is_empty(clients: Any, member: Any):
    known, topic = member(), clients.topic()
    assert known.commit(topic, member_id="", generation_id=-1) == "none"
    known.lead()
    assert known.commit(topic, member_id="", generation_id=-1) == "unknown_member_id"
    assert known.commit(topic) == "none"
    assert known.leave() == "none"
    assert known.commit(topic, member_id="", generation_id=-1) == "none"


def test_a_commit_for_an_unknown_topic_is_refused(clients: Any, member: Any):
    known = member()
    known.lead()
    assert known.commit(clients.name()) == "unknown_topic_or_partition"


def test_a_newcomer_makes_the_others_join_again(clients: Any, wait: Any, cluster: Any):
    group = clients.name("g")
    first = Member(clients, group)
    first.lead()
    with Wire(cluster.bootstrap) as elsewhere:
        second = Member(clients, group)
        second.broker = elsewhere.coordinator_of_group(group)
        asked = {**second.group, **JOINING, "protocols": RANGE}
        second.id = second.broker.ask("join_group", 5, **asked, member_id="").member_id
        second.broker.send("join_group", 5, **asked, member_id=second.id)
        wait(lambda: first.heartbeat() == "rebalance_in_progress", "the first member is told")
        leader = first.join()
        follower = second.broker.receive("join_group", 5)
        assert leader.generation_id == follower.generation_id == 2
        assert {m.member_id for m in leader.members} == {first.id, second.id}
        assert follower.members == ()
        second.generation = 2
        shares = [{"member_id": first.id, "assignment": b"a"}, {"member_id": second.id, "assignment": b"b"}]
        assert first.sync(shares).assignment == b"a"
        assert second.sync().assignment == b"b"
        assert first.heartbeat() == second.heartbeat() == "none"


def test_a_follower_that_joins_again_unchanged_causes_no_rebalance(clients: Any, wait: Any, cluster: Any):
    group = clients.name("g")
    leader = Member(clients, group)
    leader.lead()
    with Wire(cluster.bootstrap) as elsewhere:
        follower = Member(clients, group)
        follower.broker = elsewhere.coordinator_of_group(group)
        asked = {**follower.group, **JOINING, "protocols": RANGE}
        follower.id = follower.broker.ask("join_group", 5, **asked, member_id="").member_id
        follower.broker.send("join_group", 5, **asked, member_id=follower.id)
        wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
        leader.join()
        follower.broker.receive("join_group", 5)
        leader.sync([{"member_id": leader.id, "assignment": b"a"}, {"member_id": follower.id, "assignment": b"b"}])
        follower.generation = 2
        follower.sync()
        assert follower.join().generation_id == 2
        assert leader.heartbeat() == "none"


def test_a_protocol_that_nobody_else_speaks_is_refused(member: Any):
    known = member()
    known.lead()
    stranger = member()
    answer = stranger.join(protocols=[{"name": "roundrobin", "metadata": SUBSCRIPTION}])
    assert answer.error_code.name == "inconsistent_group_protocol"
    assert member().join(protocol_type="connect").error_code.name == "inconsistent_group_protocol"
    assert member().join(protocols=[]).error_code.name == "inconsistent_group_protocol"


def test_a_session_that_is_too_short_or_too_long_is_refused(member: Any):
    for session in (100, 100_000_000):
        assert member().join(session_timeout=session).error_code.name == "invalid_session_timeout"


def test_a_group_needs_a_name(clients: Any):
    nameless = Member(clients, clients.name("g"))
    nameless.group = {"group_id": ""}
    assert nameless.join().error_code.name == "invalid_group_id"


def test_a_silent_member_is_forgotten(member: Any, wait: Any):
    silent = member()
    assert silent.join(session_timeout=1_000).error_code.name == "none"
    silent.sync([{"member_id": silent.id, "assignment": b""}])
    watcher = member()
    watcher.join(session_timeout=6_000)
    wait(lambda: silent.heartbeat() == "unknown_member_id", "the silent member is unknown")


def test_a_static_member_that_comes_back_gets_a_new_id_and_its_old_assignment(member: Any):
    before = member("slot-0")
    before.lead()
    after = member("slot-0")
    joined = after.join()
    assert joined.error_code.name == "none"
    assert after.id != before.id
    assert after.generation == before.generation
    assert after.sync().assignment == b"mine"
    assert before.heartbeat() == "fenced_instance_id"
    assert after.heartbeat() == "none"


def test_the_old_holder_of_a_static_name_cannot_commit(clients: Any, member: Any):
    before, topic = member("slot-0"), clients.topic()
    before.lead()
    after = member("slot-0")
    after.join()
    after.sync()
    assert before.commit(topic) == "fenced_instance_id"
    assert before.join().error_code.name == "fenced_instance_id"
    assert after.commit(topic) == "none"
