"""One consumer group: its members and the state between two generations."""

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from millstream.local.broker.coordinator.journal import Entry
from millstream.local.broker.timers import Timer


class GroupState(StrEnum):
    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Protocol(NamedTuple):
    name: str
    metadata: bytes


class JoinRequest(NamedTuple):
    """What a member says when it joins. Times are milliseconds."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout: int
    rebalance_timeout: int
    protocol_type: str
    protocols: tuple[Protocol, ...]
    member_id_required: bool = False
    can_skip_assignment: bool = False


class SyncRequest(NamedTuple):
    """What a member says when it asks for its part; None for what its version does not say."""

    group_id: str
    generation: int
    member_id: str
    instance_id: str | None
    assignments: Mapping[str, bytes]
    protocol_type: str | None = None
    protocol: str | None = None


class Joined(NamedTuple):
    """The answer to a join; `members` is for the leader alone."""

    error: ErrorCode
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


class Synced(NamedTuple):
    error: ErrorCode
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


JoinReply = Callable[[Joined], None]
SyncReply = Callable[[Synced], None]


class Member:
    """A member, and the request in which it waits for the group, if it does."""

    def __init__(self, member_id: str, request: JoinRequest) -> None:
        self.id = member_id
        self.assignment = b""
        self.has_synced = False
        self.join_reply: JoinReply | None = None
        self.sync_reply: SyncReply | None = None
        self.timer: Timer | None = None
        self.update(request)

    def update(self, request: JoinRequest) -> None:
        self.instance_id = request.instance_id
        self.client_id = request.client_id
        self.client_host = request.client_host
        self.session_timeout = request.session_timeout
        self.rebalance_timeout = request.rebalance_timeout
        self.protocols = request.protocols

    def metadata(self, protocol: str | None) -> bytes:
        return next((p.metadata for p in self.protocols if p.name == protocol), b"")

    def answer_join(self, joined: Joined) -> None:
        if self.join_reply is not None:
            reply, self.join_reply = self.join_reply, None
            reply(joined)

    def answer_sync(self, synced: Synced) -> None:
        if self.sync_reply is not None:
            reply, self.sync_reply = self.sync_reply, None
            reply(synced)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Group:
    """`since`: when it came to its state, in milliseconds since 1970. Without a protocol type it is a simple group: it
    keeps offsets for whoever commits them, and never had members."""

    def __init__(self, group_id: str, since: int) -> None:
        self.id = group_id
        self.state = GroupState.EMPTY
        self.since = since
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.static: dict[str, str] = {}
        """The member id that each group instance id has now."""
        self.invited: dict[str, Timer] = {}
        """Member ids that were given out and have not joined yet."""
        self.timer: Timer | None = None

    @property
    def rebalance_timeout(self) -> int:
        return max((member.rebalance_timeout for member in self.members.values()), default=0)

    def add(self, member: Member) -> None:
        self.members[member.id] = member
        if member.instance_id is not None:
            self.static[member.instance_id] = member.id
        if self.leader is None:
            self.leader = member.id

    def remove(self, member: Member) -> None:
        member.stop()
        del self.members[member.id]
        if member.instance_id is not None and self.static.get(member.instance_id) == member.id:
            del self.static[member.instance_id]
        if self.leader == member.id:
            self.leader = next(iter(self.members), None)

    def rename(self, member: Member, new_id: str) -> None:
        """A static member came back: it goes on under a new id, and whoever has the old one is fenced."""
        fenced = ErrorCode.fenced_instance_id
        member.answer_join(Joined(fenced, member.id))
        member.answer_sync(Synced(fenced))
        self.members = {new_id if key == member.id else key: value for key, value in self.members.items()}
        if self.leader == member.id:
            self.leader = new_id
        if member.instance_id is not None:
            self.static[member.instance_id] = new_id
        member.id = new_id

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """None if the caller is that member; 82 if another has its instance id by now, 25 if the group does not know
        it."""
        if instance_id is not None and self.static.get(instance_id, member_id) != member_id:
            return ErrorCode.fenced_instance_id
        if member_id not in self.members or (instance_id is not None and instance_id not in self.static):
            return ErrorCode.unknown_member_id
        return ErrorCode.none

    def check_protocol(self, protocol_type: str | None, protocol: str | None) -> ErrorCode:
        """Whether a member speaks of what the group does; None says nothing about it."""
        if protocol_type not in (None, self.protocol_type) or protocol not in (None, self.protocol):
            return ErrorCode.inconsistent_group_protocol
        return ErrorCode.none

    def supports(self, protocols: tuple[Protocol, ...], protocol_type: str) -> bool:
        """Whether a member with these protocols could take part."""
        if not self.members:
            return bool(protocols) and bool(protocol_type)
        return protocol_type == self.protocol_type and bool(self._common() & {p.name for p in protocols})

    def choose_protocol(self) -> str | None:
        """The protocol that most members prefer among those that all of them have."""
        common = self._common()
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = next(p.name for p in member.protocols if p.name in common)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=lambda name: votes[name]) if votes else None

    def _common(self) -> set[str]:
        names = [{p.name for p in member.protocols} for member in self.members.values()]
        return set.intersection(*names) if names else set()

    def topics_read(self) -> set[str] | None:
        """The topics that members read; None, for any, where a consumer does not say so in a way we can read."""
        topics: set[str] = set()
        if self.protocol_type != "consumer" or self.state is GroupState.EMPTY:
            return topics
        for member in self.members.values():
            known = subscribed_topics(member.metadata(self.protocol))
            if known is None:
                return None
            topics |= known
        return topics

    def joined(self, member: Member, leader: str | None = None, *, skip_assignment: bool = False) -> Joined:
        """The answer that `member` gets for the present generation."""
        members: tuple[tuple[str, str | None, bytes], ...] = ()
        leader = leader or self.leader or ""
        if member.id == leader:
            members = tuple((m.id, m.instance_id, m.metadata(self.protocol)) for m in self.members.values())
        return Joined(
            ErrorCode.none,
            member.id,
            self.generation,
            self.protocol_type,
            self.protocol,
            leader,
            members,
            skip_assignment,
        )

    def synced(self, member: Member) -> Synced:
        return Synced(ErrorCode.none, self.protocol_type, self.protocol, member.assignment)

    def entry(self) -> Entry:
        members = [
            [
                m.id, m.instance_id, m.client_id, m.client_host, m.session_timeout, m.rebalance_timeout,
                [[p.name, b64encode(p.metadata).decode()] for p in m.protocols], b64encode(m.assignment).decode(),
            ]
            for m in self.members.values()
        ]  # fmt: skip
        return [
            "group", self.id, self.generation, self.protocol_type, self.protocol, self.leader, members,
            self.since, self.state,
        ]  # fmt: skip

    @classmethod
    def read(cls, entry: Entry) -> "Group":
        _, group_id, generation, protocol_type, protocol, leader, members, since, state = entry
        group = cls(group_id, since)
        for member_id, instance_id, client_id, host, session, rebalance, protocols, assignment in members:
            offered = tuple(Protocol(name, b64decode(metadata)) for name, metadata in protocols)
            request = JoinRequest(
                group_id, member_id, instance_id, client_id, host, session, rebalance, protocol_type or "", offered
            )
            member = Member(member_id, request)
            member.assignment = b64decode(assignment)
            member.has_synced = True
            group.add(member)
        group.generation = generation
        group.protocol_type = protocol_type
        group.protocol = protocol
        group.leader = leader
        group.state = GroupState(state)
        return group


def subscribed_topics(subscription: bytes) -> set[str] | None:
    """The topics in a consumer's subscription, as its version 0 has them, which begins all others; None if it cannot
    be read."""
    topics: set[str] = set()
    try:
        count, at = struct.unpack_from(">i", subscription, 2)[0], 6
        for _ in range(count):
            length = struct.unpack_from(">h", subscription, at)[0]
            if length < 0:
                return None
            topics.add(subscription[at + 2 : at + 2 + length].decode())
            at += 2 + length
    except (struct.error, UnicodeDecodeError):  # not a consumer's metadata: nothing to know of it
        return None
    return topics
