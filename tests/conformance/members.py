"""Group members that speak the protocol by hand."""

import struct
from typing import Any

from millstream.testing.wire import Wire

JOINING = {"session_timeout": 10_000, "rebalance_timeout": 10_000, "protocol_type": "consumer"}


def subscription(*topics: str) -> bytes:
    """Version 0 of the consumer protocol, without user data. Apache Kafka reads it, so it has to be well-formed."""
    named = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    return struct.pack(">hi", 0, len(topics)) + named + struct.pack(">i", -1)


def protocols(*names: str, topics: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [{"name": name, "metadata": subscription(*topics)} for name in names]


RANGE = protocols("range")


class Member:
    """One member. It shares the coordinator's connection unless it is given one `through` which to speak: whoever is
    to wait for others needs that."""

    def __init__(self, clients: Any, group: str, instance: str | None = None, through: Wire | None = None) -> None:
        self.broker = (through or clients.wire).coordinator_of_group(group)
        self.group = {"group_id": group}
        self.instance = {"group_instance_id": instance}
        self.id = ""
        self.generation = -1

    def join(self, protocols: Any = RANGE, version: int = 5, **changed: Any) -> Any:
        """Join and come back with the member id, if that is asked for; the last answer."""
        answer = self.broker.ask("join_group", version, **self._joining(protocols, **changed))
        if answer.error_code.name == "member_id_required" and not self.id:
            self.id = answer.member_id
            return self.join(protocols, version, **changed)
        return self.took(answer)

    def start_joining(self, protocols: Any = RANGE, **changed: Any) -> None:
        """Join without waiting for the others; `finish_joining` waits."""
        if not self.id and self.instance["group_instance_id"] is None:
            self.id = self.broker.ask("join_group", 5, **self._joining(protocols, **changed)).member_id
        self.broker.send("join_group", 5, **self._joining(protocols, **changed))

    def finish_joining(self) -> Any:
        return self.took(self.broker.receive("join_group", 5))

    def took(self, answer: Any) -> Any:
        if answer.error_code.name == "none":
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def _joining(self, protocols: Any, **changed: Any) -> dict[str, Any]:
        return {**self.group, **self.instance, **JOINING, "member_id": self.id, "protocols": protocols, **changed}

    def sync(self, assignments: Any = (), version: int = 3, **changed: Any) -> Any:
        """Ask for one's part; `assignments` maps member ids to parts, for the leader."""
        given = [{"member_id": m, "assignment": part} for m, part in dict(assignments).items()]
        return self.broker.ask("sync_group", version, **self.identity(**changed), assignments=given)

    def lead(self, **joining: Any) -> None:
        """Join as the only member and hand oneself the assignment."""
        assert self.join(**joining).error_code.name == "none"
        synced = self.sync({self.id: b"mine"})
        assert (synced.error_code.name, synced.assignment) == ("none", b"mine")

    def heartbeat(self, **changed: Any) -> str:
        return self.broker.ask("heartbeat", 3, **self.identity(**changed)).error_code.name

    def leave(self) -> str:
        return self.broker.ask("leave_group", 1, **self.group, member_id=self.id).error_code.name

    def commit(
        self, topic: str, offset: int = 1, version: int = 8, metadata: str | None = "", epoch: int = -1, **changed: Any
    ) -> str:
        identity = self.identity(**changed)
        identity["generation_id_or_member_epoch"] = identity.pop("generation_id")
        partition = {
            "partition_index": 0,
            "committed_offset": offset,
            "committed_metadata": metadata,
            "committed_leader_epoch": epoch,
        }
        topics = [{"name": topic, "partitions": [partition]}]
        answer = self.broker.ask("offset_commit", version, **identity, topics=topics)
        return answer.topics[0].partitions[0].error_code.name

    def identity(self, **changed: Any) -> dict[str, Any]:
        identity = {"member_id": self.id, "generation_id": self.generation}
        return {**self.group, **self.instance, **identity, **changed}


def outsider(clients: Any, group: str) -> Member:
    """Somebody who commits for a group without being in it."""
    return Member(clients, group)


def pair(leader: Member, follower: Member, wait: Any, **joining: Any) -> None:
    """Bring both into one stable generation. The follower needs a connection of its own."""
    leader.lead(**joining)
    follower.start_joining(**joining)
    wait(lambda: leader.heartbeat() == "rebalance_in_progress", "the leader is told")
    assert leader.join(**joining).error_code.name == "none"
    assert follower.finish_joining().error_code.name == "none"
    assert leader.sync({leader.id: b"first", follower.id: b"second"}).assignment == b"first"
    assert follower.sync().assignment == b"second"
