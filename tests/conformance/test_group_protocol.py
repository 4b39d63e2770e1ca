"""Consumer groups by hand: what the coordinator refuses, and with which code."""

from typing import Any

from tests.conformance.members import JOINING, RANGE, Member, pair, protocols

from millstream.testing.wire import Wire


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
    assert alone.sync({alone.id: b"all"}).assignment == b"all"
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
        assert first.sync({first.id: b"a", second.id: b"b"}).assignment == b"a"
        assert second.sync().assignment == b"b"
        assert first.heartbeat() == second.heartbeat() == "none"


def test_a_follower_that_joins_again_unchanged_causes_no_rebalance(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(), member(through=elsewhere())
    pair(leader, follower, wait)
    assert follower.join().generation_id == leader.generation
    assert leader.heartbeat() == "none"


def test_a_follower_with_other_wishes_makes_all_join_again(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(), member(through=elsewhere())
    pair(leader, follower, wait)
    follower.start_joining(protocols("range", topics=("another",)))
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")


def test_a_leader_that_joins_again_makes_all_join_again(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(through=elsewhere()), member()
    pair_apart(leader, follower, elsewhere, wait)
    leader.start_joining()
    wait(lambda: follower.heartbeat() == "rebalance_in_progress", "the follower is told")
    assert follower.sync().error_code.name == "rebalance_in_progress"
    assert follower.join().generation_id == leader.generation + 1
    assert leader.finish_joining().generation_id == follower.generation


def pair_apart(leader: Member, follower: Member, elsewhere: Any, wait: Any) -> None:
    """`pair` for a follower on the shared connection."""
    shared, follower.broker = follower.broker, elsewhere().coordinator_of_group(follower.group["group_id"])
    pair(leader, follower, wait)
    follower.broker = shared


def test_a_leader_that_missed_the_answer_is_answered_again(member: Any):
    leader = member()
    first = leader.join()
    again = leader.join()
    assert (again.generation_id, again.leader, again.members) == (first.generation_id, leader.id, first.members)


def test_the_group_waits_for_the_leaders_assignment(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(), member(through=elsewhere())
    leader.lead()
    follower.start_joining()
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    leader.join()
    follower.finish_joining()
    follower.broker.send("sync_group", 3, **follower.identity(), assignments=[])
    assert leader.heartbeat() == "none"
    leader.sync({follower.id: b"all"})
    assert follower.broker.receive("sync_group", 3).assignment == b"all"


def test_a_member_without_an_assignment_gets_an_empty_one(member: Any):
    leader = member()
    leader.join()
    synced = leader.sync()
    assert (synced.error_code.name, synced.assignment) == ("none", b"")


def test_who_waits_for_an_assignment_is_told_of_the_next_rebalance(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(), member(through=elsewhere())
    leader.lead()
    follower.start_joining()
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    leader.join()
    follower.finish_joining()
    follower.broker.send("sync_group", 3, **follower.identity(), assignments=[])
    assert leader.leave() == "none"
    assert follower.broker.receive("sync_group", 3).error_code.name == "rebalance_in_progress"


def test_a_commit_between_joining_and_the_assignment_is_refused(clients: Any, member: Any):
    one, topic = member(), clients.topic()
    one.join()
    assert one.commit(topic) == "rebalance_in_progress"
    one.sync()
    assert one.commit(topic) == "none"


def test_a_commit_while_others_join_is_taken(clients: Any, member: Any, elsewhere: Any, wait: Any):
    leader, newcomer, topic = member(), member(through=elsewhere()), clients.topic()
    leader.lead()
    newcomer.start_joining()
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    assert leader.commit(topic) == "none"


def test_the_protocol_that_most_members_prefer_is_chosen(member: Any, elsewhere: Any, wait: Any):
    members = [member(), member(through=elsewhere()), member(through=elsewhere())]
    wishes = [protocols("roundrobin", "range"), protocols("range", "roundrobin"), protocols("range", "roundrobin")]
    members[0].lead(protocols=wishes[0])
    for one, wish in zip(members[1:], wishes[1:], strict=True):
        one.start_joining(wish)
    wait(lambda: members[0].heartbeat() == "rebalance_in_progress", "the first member is told")
    assert members[0].join(wishes[0]).protocol_name == "range"
    assert {one.finish_joining().protocol_name for one in members[1:]} == {"range"}


def test_a_sync_that_speaks_of_another_protocol_is_refused(member: Any):
    leader = member()
    leader.join(version=7)
    for told in (("connect", "range"), ("consumer", "roundrobin")):
        refused = leader.sync(version=5, protocol_type=told[0], protocol_name=told[1])
        assert refused.error_code.name == "inconsistent_group_protocol"
    synced = leader.sync(version=5, protocol_type="consumer", protocol_name="range")
    assert (synced.error_code.name, synced.protocol_type, synced.protocol_name) == ("none", "consumer", "range")


def test_newer_joins_say_of_which_type_the_group_is(member: Any):
    answer = member().join(version=9)
    assert (answer.error_code.name, answer.protocol_type, answer.protocol_name) == ("none", "consumer", "range")
    assert answer.skip_assignment is False


def test_old_joins_are_taken_without_coming_back(member: Any):
    old = member()
    asked = {**old.group, "session_timeout": 10_000, "protocol_type": "consumer", "protocols": RANGE, "member_id": ""}
    answer = old.broker.ask("join_group", 0, **asked)
    assert (answer.error_code.name, answer.leader, answer.generation_id) == ("none", answer.member_id, 1)


def test_a_refused_join_tells_no_generation(member: Any):
    answer = member().join(version=7, session_timeout=1)
    assert (answer.error_code.name, answer.generation_id, answer.protocol_name) == (
        "invalid_session_timeout",
        -1,
        None,
    )


def test_an_unknown_group_has_no_members(member: Any):
    nobody = member()
    nobody.id, nobody.generation = "m", 1
    assert nobody.join().error_code.name == "unknown_member_id"
    assert nobody.sync().error_code.name == "unknown_member_id"
    assert nobody.leave() == "unknown_member_id"


def test_nothing_can_be_asked_of_a_group_without_a_name(clients: Any):
    nameless = Member(clients, clients.name("g"))
    nameless.group = {"group_id": ""}
    nameless.id, nameless.generation = "m", 1
    assert nameless.heartbeat() == "invalid_group_id"
    assert nameless.sync().error_code.name == "invalid_group_id"
    assert nameless.leave() == "invalid_group_id"


def test_a_member_id_that_was_given_out_may_leave_before_it_joins(member: Any):
    newcomer = member()
    asked = {**newcomer.group, **JOINING, "member_id": "", "protocols": RANGE}
    newcomer.id = newcomer.broker.ask("join_group", 5, **asked).member_id
    assert newcomer.leave() == "none"
    assert newcomer.join().error_code.name == "unknown_member_id"


def test_a_generation_goes_on_counting_when_the_group_was_empty(member: Any):
    first = member()
    first.lead()
    first.leave()
    second = member()
    assert second.join().generation_id == first.generation + 2


def test_several_members_leave_in_one_request(member: Any, elsewhere: Any, wait: Any):
    leader, follower = member(), member(through=elsewhere())
    pair(leader, follower, wait)
    leaving = [
        {"member_id": name, "group_instance_id": None, "reason": "done"}
        for name in (leader.id, "stranger", follower.id)
    ]
    answer = leader.broker.ask("leave_group", 5, **leader.group, members=leaving)
    assert answer.error_code.name == "none"
    assert [(m.member_id, m.error_code.name) for m in answer.members] == [
        (leader.id, "none"),
        ("stranger", "unknown_member_id"),
        (follower.id, "none"),
    ]
    assert leader.heartbeat() == follower.heartbeat() == "unknown_member_id"


def test_a_protocol_that_nobody_else_speaks_is_refused(member: Any):
    known = member()
    known.lead()
    stranger = member()
    answer = stranger.join(protocols("roundrobin"))
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
    silent.sync({silent.id: b""})
    watcher = member()
    watcher.join(session_timeout=6_000)
    wait(lambda: silent.heartbeat() == "unknown_member_id", "the silent member is unknown")
