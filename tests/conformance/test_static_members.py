"""Static members by hand (KIP-345): who keeps a name, who is fenced, and when the group rebalances."""

from typing import Any

from tests.conformance.members import JOINING, RANGE, pair, protocols


def test_a_static_member_needs_no_second_join(member: Any):
    static = member("slot-0")
    asked = {**static.group, **static.instance, **JOINING, "member_id": "", "protocols": RANGE}
    answer = static.broker.ask("join_group", 5, **asked)
    assert (answer.error_code.name, answer.generation_id) == ("none", 1)
    assert answer.member_id.startswith("slot-0-")
    assert [m.group_instance_id for m in answer.members] == ["slot-0"]


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


def test_the_old_holder_of_a_static_name_is_refused_everywhere(clients: Any, member: Any):
    before, topic = member("slot-0"), clients.topic()
    before.lead()
    after = member("slot-0")
    after.join()
    after.sync()
    assert before.commit(topic) == "fenced_instance_id"
    assert before.sync().error_code.name == "fenced_instance_id"
    assert before.join().error_code.name == "fenced_instance_id"
    assert after.commit(topic) == "none"


def test_a_leader_that_comes_back_is_told_of_its_old_self_so_that_it_assigns_nothing(member: Any):
    before = member("slot-0")
    before.lead()
    joined = member("slot-0").join()
    assert joined.leader == before.id
    assert joined.members == ()


def test_a_newer_leader_that_comes_back_is_told_to_skip_the_assignment(member: Any):
    before = member("slot-0")
    before.lead()
    joined = member("slot-0").join(version=9)
    assert joined.leader == joined.member_id
    assert joined.skip_assignment is True
    assert [m.group_instance_id for m in joined.members] == ["slot-0"]


def test_a_follower_that_comes_back_disturbs_nobody(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member("a"), member("b", through=elsewhere())
    pair(leader, follower, wait)
    returned = member("b")
    joined = returned.join()
    assert (joined.error_code.name, joined.generation_id, joined.leader) == ("none", leader.generation, leader.id)
    assert returned.sync().assignment == b"second"
    assert leader.heartbeat() == "none"


def test_other_topics_of_a_static_member_that_comes_back_wait_for_the_next_rebalance(
    member: Any, elsewhere: Any, wait: Any
):
    """What decides is the protocol that the group would choose, not what the member says in it."""
    leader, follower = member("a"), member("b", through=elsewhere())
    pair(leader, follower, wait)
    returned = member("b")
    assert returned.join(protocols("range", topics=("another",))).generation_id == leader.generation
    assert leader.heartbeat() == returned.heartbeat() == "none"


def test_a_static_member_that_comes_back_with_another_protocol_makes_all_join_again(
    member: Any, elsewhere: Any, wait: Any
):
    wishes = protocols("range", "roundrobin")
    leader, follower = member("a"), member("b", through=elsewhere())
    pair(leader, follower, wait, protocols=wishes)
    returned = member("b", through=elsewhere())
    returned.start_joining(protocols("roundrobin"))
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    assert leader.join(wishes).protocol_name == "roundrobin"
    assert returned.finish_joining().error_code.name == "none"
    assert follower.heartbeat() == "fenced_instance_id"


def test_an_instance_name_that_the_group_does_not_have_is_unknown(clients: Any, member: Any):
    static, topic = member("slot-0"), clients.topic()
    static.lead()
    stranger = {"group_instance_id": "slot-9"}
    assert static.heartbeat(**stranger) == "unknown_member_id"
    assert static.sync(**stranger).error_code.name == "unknown_member_id"
    assert static.commit(topic, **stranger) == "unknown_member_id"
    assert static.join(**stranger).error_code.name == "unknown_member_id"


def test_a_dynamic_member_cannot_take_a_static_name(member: Any):
    static = member("slot-0")
    static.lead()
    assert static.heartbeat(member_id="dynamic") == "fenced_instance_id"
    assert static.join(member_id="dynamic").error_code.name == "fenced_instance_id"


def test_an_administrator_removes_a_member_by_its_instance_name(member: Any):
    static = member("slot-0")
    static.lead()
    names = ["slot-0", "slot-9"]
    leaving = [{"member_id": "", "group_instance_id": name, "reason": None} for name in names]
    answer = static.broker.ask("leave_group", 5, **static.group, members=leaving)
    found = [(m.group_instance_id, m.error_code.name) for m in answer.members]
    assert found == [("slot-0", "none"), ("slot-9", "unknown_member_id")]
    assert static.heartbeat() == "unknown_member_id"


def test_a_leave_with_the_instance_name_of_another_is_fenced(member: Any):
    static = member("slot-0")
    static.lead()
    leaving = [{"member_id": "stranger", "group_instance_id": "slot-0"}]
    answer = static.broker.ask("leave_group", 3, **static.group, members=leaving)
    assert [m.error_code.name for m in answer.members] == ["fenced_instance_id"]
    assert static.heartbeat() == "none"


def test_a_static_member_that_left_by_name_may_join_anew(member: Any):
    static = member("slot-0")
    static.lead()
    leaving = [{"member_id": "", "group_instance_id": "slot-0"}]
    static.broker.ask("leave_group", 4, **static.group, members=leaving)
    again = member("slot-0")
    assert again.join().generation_id == static.generation + 2


def test_a_static_member_that_is_silent_for_its_session_is_out(member: Any, wait: Any):
    static = member("slot-0")
    static.lead(session_timeout=1_000)
    watcher = member()
    wait(lambda: watcher.heartbeat(member_id=static.id, generation_id=99) == "unknown_member_id", "it is forgotten")
    assert static.heartbeat() == "unknown_member_id"


def test_two_joins_for_one_name_leave_the_second(member: Any, elsewhere: Any, wait: Any):
    """The group waits for its other member, so both joins of the name are still unanswered."""
    leader = member()
    leader.lead()
    first, second = member("slot-0", through=elsewhere()), member("slot-0", through=elsewhere())
    first.start_joining()
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    second.start_joining()
    assert first.finish_joining().error_code.name == "fenced_instance_id"
    leader.join()
    assert second.finish_joining().error_code.name == "none"
