"""The group coordinator: the classic protocol of joining, syncing, heartbeats and leaving, with static membership.

Answers to Join and Sync come when the group is ready for them, by the `reply` that the caller gives; every wait ends,
for each has a timer: the session of a member, the rebalance of a group.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from uuid import uuid4

from kio.schema.errors import ErrorCode

from millstream.local.broker.coordinator.group import (
    Group,
    GroupState,
    Joined,
    JoinReply,
    JoinRequest,
    Member,
    Synced,
    SyncReply,
    SyncRequest,
)
from millstream.local.broker.coordinator.journal import Entry, Journal
from millstream.local.broker.errors import Refused
from millstream.local.broker.timers import Timers

log = logging.getLogger(__name__)

MIN_SESSION_MS = 1000
MAX_SESSION_MS = 30 * 60 * 1000
MAX_MEMBERS = 10_000


class Groups:
    """Every group by id. `initial_delay` (ms) is how long an empty group waits for more members than the first."""

    def __init__(self, journal: Journal, timers: Timers, initial_delay: int = 0) -> None:
        self.by_id: dict[str, Group] = {}
        self._journal = journal
        self._timers = timers
        self._initial_delay = initial_delay

    # What members ask for

    def join(self, request: JoinRequest, reply: JoinReply) -> None:
        """Take part in the next generation; `reply` is called when it begins, or at once with an error."""
        if not request.group_id:
            reply(Joined(ErrorCode.invalid_group_id, request.member_id))
        elif not MIN_SESSION_MS <= request.session_timeout <= MAX_SESSION_MS:
            reply(Joined(ErrorCode.invalid_session_timeout, request.member_id))
        elif request.member_id == "":
            self._join_new(request, reply)
        else:
            self._join_known(request, reply)

    def sync(self, request: SyncRequest, reply: SyncReply) -> None:
        """Bring the leader's assignments, or ask for one's own; `reply` is called when the leader has brought them."""
        error, group = self._check(request.group_id, request.member_id, request.instance_id, request.generation)
        if group is not None and not error:
            error = group.check_protocol(request.protocol_type, request.protocol)
        if group is None or error:
            reply(Synced(error))
            return
        member = group.members[request.member_id]
        self._heard_of(group, member)
        match group.state:
            case GroupState.PREPARING:
                reply(Synced(ErrorCode.rebalance_in_progress))
            case GroupState.STABLE:
                self._has_synced(group, member)
                reply(group.synced(member))
            case _:
                member.answer_sync(Synced(ErrorCode.rebalance_in_progress))
                member.sync_reply = reply
                member.has_synced = True
                if member.id == group.leader:
                    self._assign(group, request.assignments)

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        error, group = self._check(group_id, member_id, instance_id, generation)
        if group is None or error:
            return error
        self._heard_of(group, group.members[member_id])
        return ErrorCode.rebalance_in_progress if group.state is GroupState.PREPARING else ErrorCode.none

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> ErrorCode:
        """Leave for good. A static member may be named by its instance id alone."""
        if not group_id:
            return ErrorCode.invalid_group_id
        group = self.by_id.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id
        if instance_id is not None and not member_id:
            member_id = group.static.get(instance_id, "")
        elif member_id in group.invited:
            group.invited.pop(member_id).cancel()
            self._complete_if_all_joined(group)
            return ErrorCode.none
        if error := group.check_member(member_id, instance_id):
            return error
        self._remove(group, group.members[member_id])
        return ErrorCode.none

    def check_commit(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None, *, transactional: bool = False
    ) -> ErrorCode:
        """Whether this caller may commit offsets for the group now: a member of its generation, or anyone while it has
        no members. As KIP-447 has it, a transaction may also commit without saying for which member."""
        group = self.by_id.get(group_id)
        if group is None:
            if generation >= 0:
                return ErrorCode.group_id_not_found
            self.by_id[group_id] = Group(group_id, self._timers.clock())
            return ErrorCode.none
        if generation < 0 and group.state is GroupState.EMPTY:
            return ErrorCode.none
        if generation < 0 and not member_id and instance_id is None:
            return ErrorCode.none if transactional else ErrorCode.unknown_member_id
        if error := group.check_member(member_id, instance_id):
            return error
        if generation != group.generation:
            return ErrorCode.illegal_generation
        if transactional:
            return ErrorCode.none
        if group.state is GroupState.COMPLETING:
            return ErrorCode.rebalance_in_progress
        self._heard_of(group, group.members[member_id])
        return ErrorCode.none

    def delete(self, group_id: str) -> None:
        """Forget the group. Raises Refused while it has members, and if there is no such group."""
        group = self.by_id.get(group_id)
        if group is None:
            raise Refused(ErrorCode.group_id_not_found, f"Group {group_id} not found.")
        if group.members:
            raise Refused(ErrorCode.non_empty_group)
        self._journal.add(["group_deleted", group_id])
        del self.by_id[group_id]
        for timer in (group.timer, *group.invited.values()):
            if timer is not None:
                timer.cancel()

    # Recovery

    def apply(self, entry: Entry) -> bool:
        """Take one journal entry into the state; False if it is not about groups."""
        match entry:
            case ["group", group_id, *_]:
                self.by_id[group_id] = Group.read(entry)
            case ["group_deleted", group_id]:
                self.by_id.pop(group_id, None)
            case _:
                return False
        return True

    def recover(self, with_offsets: Iterable[str]) -> None:
        """After the journal was applied: every member has one session timeout from now to be heard of. Whatever is
        `with_offsets` and not known as a group is a simple one."""
        for group_id in with_offsets:
            self.by_id.setdefault(group_id, Group(group_id, self._timers.clock()))
        for group in self.by_id.values():
            for member in group.members.values():
                self._heard_of(group, member)
            if group.state in (GroupState.PREPARING, GroupState.COMPLETING):
                group.state = GroupState.STABLE
                self._prepare(group)

    def snapshot(self) -> Iterator[Entry]:
        for group in self.by_id.values():
            if group.protocol_type is not None:
                yield group.entry()

    # Joining

    def _join_new(self, request: JoinRequest, reply: JoinReply) -> None:
        group = self.by_id.get(request.group_id) or Group(request.group_id, self._timers.clock())
        if not group.supports(request.protocols, request.protocol_type):
            reply(Joined(ErrorCode.inconsistent_group_protocol))
            return
        if len(group.members) + len(group.invited) >= MAX_MEMBERS:
            reply(Joined(ErrorCode.group_max_size_reached))
            return
        self.by_id[group.id] = group
        member_id = f"{request.instance_id or request.client_id}-{uuid4()}"
        if request.instance_id is not None and request.instance_id in group.static:
            self._replace_static(group, member_id, request, reply)
        elif request.instance_id is None and request.member_id_required:
            group.invited[member_id] = self._timers.after(
                request.session_timeout, lambda: self._invitation_expired(group, member_id)
            )
            reply(Joined(ErrorCode.member_id_required, member_id))
        else:
            self._add(group, member_id, request, reply)

    def _join_known(self, request: JoinRequest, reply: JoinReply) -> None:
        member_id = request.member_id
        group = self.by_id.get(request.group_id)
        if group is None:
            reply(Joined(ErrorCode.unknown_member_id, member_id))
            return
        if not group.supports(request.protocols, request.protocol_type):
            reply(Joined(ErrorCode.inconsistent_group_protocol, member_id))
            return
        if member_id in group.invited:
            group.invited.pop(member_id).cancel()
            self._add(group, member_id, request, reply)
            return
        if error := group.check_member(member_id, request.instance_id):
            reply(Joined(error, member_id))
            return
        member = group.members[member_id]
        changed = member.protocols != request.protocols
        match group.state:
            case GroupState.COMPLETING if not changed:
                reply(group.joined(member))  # it missed the answer
            case GroupState.STABLE if not changed and member_id != group.leader:
                reply(group.joined(member))
            case _:
                member.update(request)
                self._await_join(group, member, reply)
        self._heard_of(group, member)

    def _add(self, group: Group, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        member = Member(member_id, request)
        was_empty = not group.members
        group.protocol_type = request.protocol_type
        group.add(member)
        self._await_join(group, member, reply, delay=self._initial_delay if was_empty else 0)

    def _replace_static(self, group: Group, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        """A static member came back without its id (KIP-345): no rebalance unless the group would choose another
        protocol now."""
        member = group.members[group.static[request.instance_id or ""]]
        old_id, was_leader = member.id, group.leader == member.id
        group.rename(member, member_id)
        member.update(request)
        self._heard_of(group, member)
        if group.state is not GroupState.STABLE or group.choose_protocol() != group.protocol:
            self._await_join(group, member, reply)
            return
        self._save(group)
        if not was_leader:
            reply(group.joined(member))
        elif request.can_skip_assignment:
            reply(group.joined(member, skip_assignment=True))
        else:
            # Told of its old self as the leader it does not assign anew, but asks for what it had.
            reply(group.joined(member, leader=old_id))

    def _await_join(self, group: Group, member: Member, reply: JoinReply, delay: int = 0) -> None:
        member.answer_join(Joined(ErrorCode.unknown_member_id, member.id))
        member.join_reply = reply
        self._prepare(group, delay)

    # From one generation to the next

    def _prepare(self, group: Group, delay: int = 0) -> None:
        """Ask all members to join again, and go on once they have."""
        if group.state is not GroupState.PREPARING:
            if group.state is GroupState.COMPLETING:
                for member in group.members.values():
                    member.assignment = b""
                    member.answer_sync(Synced(ErrorCode.rebalance_in_progress))
            self._enter(group, GroupState.PREPARING)
            self._set_timer(group, delay or group.rebalance_timeout)
        if not delay:
            self._complete_if_all_joined(group)

    def _complete_if_all_joined(self, group: Group) -> None:
        waited_for = group.invited or any(member.join_reply is None for member in group.members.values())
        if group.state is GroupState.PREPARING and not waited_for:
            self._begin_generation(group)

    def _begin_generation(self, group: Group) -> None:
        """All have joined, or their time is up: those who have not are out, except static members, who may yet come
        back."""
        for member in list(group.members.values()):
            if member.join_reply is None and member.instance_id is None:
                group.remove(member)
        if group.timer is not None:
            group.timer.cancel()
        if not group.members:
            group.generation += 1
            group.protocol = None
            self._enter(group, GroupState.EMPTY)
            self._save(group)
            return
        leader = group.members.get(group.leader or "")
        if leader is None or leader.join_reply is None:
            leader = next((member for member in group.members.values() if member.join_reply is not None), None)
        if leader is None:  # only static members, and none of them back: their sessions decide
            self._set_timer(group, group.rebalance_timeout)
            return
        group.leader = leader.id
        group.generation += 1
        group.protocol = group.choose_protocol()
        self._enter(group, GroupState.COMPLETING)
        self._set_timer(group, group.rebalance_timeout)
        if group.static:
            # Whoever knows its new id must not be fenced by its old one after a crash: that would be fatal to it.
            self._save(group)
        for member in list(group.members.values()):
            member.has_synced = False
            self._heard_of(group, member)
            member.answer_join(group.joined(member))

    def _assign(self, group: Group, assignments: Mapping[str, bytes]) -> None:
        for member in group.members.values():
            member.assignment = assignments.get(member.id, b"")
        self._enter(group, GroupState.STABLE)
        try:
            self._journal.add(group.entry())
        except Refused:
            self._enter(group, GroupState.COMPLETING)
            self._prepare(group)
            return
        for member in list(group.members.values()):
            member.answer_sync(group.synced(member))
        self._stop_waiting_for_syncs(group)

    def _has_synced(self, group: Group, member: Member) -> None:
        member.has_synced = True
        self._stop_waiting_for_syncs(group)

    def _stop_waiting_for_syncs(self, group: Group) -> None:
        if group.timer is not None and all(member.has_synced for member in group.members.values()):
            group.timer.cancel()

    def _save(self, group: Group) -> None:
        """Note what changed outside of a new generation. If the disk refuses, the group goes on as it was noted last
        after a restart: its members find out, and join again."""
        try:
            self._journal.add(group.entry())
        except Refused as refused:
            log.warning("group %s: %s", group.id, refused, extra={"code": "group_not_saved"})

    def _enter(self, group: Group, state: GroupState) -> None:
        group.state = state
        group.since = self._timers.clock()

    def _set_timer(self, group: Group, delay: int) -> None:
        if group.timer is not None:
            group.timer.cancel()
        group.timer = self._timers.after(delay, lambda: self._rebalance_timed_out(group))

    def _rebalance_timed_out(self, group: Group) -> None:
        match group.state:
            case GroupState.PREPARING:
                for timer in group.invited.values():
                    timer.cancel()
                group.invited.clear()
                self._begin_generation(group)
            case GroupState.COMPLETING | GroupState.STABLE:
                late = [member for member in group.members.values() if not member.has_synced]
                log.warning(
                    "group %s: %d members never synced generation %d",
                    group.id,
                    len(late),
                    group.generation,
                    extra={"code": "members_never_synced"},
                )
                for member in late:
                    group.remove(member)
                self._prepare(group)
            case _:
                return

    # Members that are heard of, and those that are not

    def _check(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> tuple[ErrorCode, Group | None]:
        if not group_id:
            return ErrorCode.invalid_group_id, None
        group = self.by_id.get(group_id)
        if group is None:
            return ErrorCode.unknown_member_id, None
        error = group.check_member(member_id, instance_id)
        if not error and generation != group.generation:
            error = ErrorCode.illegal_generation
        return error, group

    def _heard_of(self, group: Group, member: Member) -> None:
        member.stop()
        member.timer = self._timers.after(member.session_timeout, lambda: self._session_expired(group, member))

    def _session_expired(self, group: Group, member: Member) -> None:
        if group.members.get(member.id) is not member:
            return
        if member.join_reply is not None or member.sync_reply is not None:
            self._heard_of(group, member)  # it waits for us
            return
        log.info(
            "group %s: member %s was not heard of for %d ms",
            group.id,
            member.id,
            member.session_timeout,
            extra={"code": "member_expired"},
        )
        self._remove(group, member)

    def _remove(self, group: Group, member: Member) -> None:
        member.answer_join(Joined(ErrorCode.unknown_member_id, member.id))
        member.answer_sync(Synced(ErrorCode.unknown_member_id))
        group.remove(member)
        self._prepare(group)

    def _invitation_expired(self, group: Group, member_id: str) -> None:
        group.invited.pop(member_id, None)
        self._complete_if_all_joined(group)
