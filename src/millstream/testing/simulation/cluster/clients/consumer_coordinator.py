"""A consumer's membership in its group: joining, heartbeats, assignments. It goes on beside the application."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from millstream.errors import EncodeError, KafkaFault
from millstream.kafka.port import TopicPartition
from millstream.settings import Settings
from millstream.testing.simulation.cluster.clients import assignors
from millstream.testing.simulation.cluster.clients.client import AGAIN, TRANSIENT, Client, failure_of
from millstream.testing.simulation.scheduler.tasks import Awaited, Signal, Steps
from millstream.timeouts import MISSING_TOPIC_TIMEOUT

TOPIC_CHECK_INTERVAL = 0.25
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, MEMBER_ID_REQUIRED = 22, 25, 27, 79
LOST = frozenset({ILLEGAL_GENERATION, UNKNOWN_MEMBER})

Change = Literal["assigned", "revoked", "lost"]
RequestChange = Callable[[Change, list[TopicPartition]], Awaited[None]]
"""Has the application told of partitions that it gets or loses; done when its callback has returned."""


class GroupMetadata(NamedTuple):
    """The member that commits: what `Consumer.group_metadata` returns."""

    group: str
    generation: int
    member_id: str
    instance: str | None


class ConsumerCoordinator:
    """One member of a group. `error`: why it cannot be one any more."""

    def __init__(
        self,
        client: Client,
        group: str,
        instance: str | None,
        strategy: str,
        settings: Settings,
        request_change: RequestChange,
    ) -> None:
        self.error: KafkaFault | EncodeError | None = None
        self.owned: list[TopicPartition] = []
        self.missing: dict[str, int] = {}
        """Topics that do not exist, and the moment after which that is an error."""
        self._client = client
        self._group = group
        self._instance = instance
        self._strategy = strategy
        self._settings = settings
        self._request_change = request_change
        self._topics: list[str] = []
        self._member_id = ""
        self._generation = -1
        self._rejoin_reason: int | None = None
        self._rejoin_needed = Signal()
        self._connection = client.connect()
        self._tasks: list[Any] = []

    @property
    def metadata(self) -> GroupMetadata:
        return GroupMetadata(self._group, self._generation, self._member_id, self._instance)

    def subscribe(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)
        incarnation = self._client.incarnation
        self._tasks = [
            incarnation.task(steps) for steps in (self._look_for_topics(), self._stay_member(), self._send_heartbeats())
        ]

    def leave(self) -> Steps[None]:
        """End the membership; a named instance only goes silent, since it may come back."""
        self._stop()
        if self._member_id and self._instance is None:
            values = {"group_id": self._group, "member_id": self._member_id}
            yield from self._client.ask("leave_group", over=self._connection, **values)

    def close(self) -> None:
        self._stop()
        self._connection.close()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _stay_member(self) -> Steps[None]:
        try:
            while True:
                assigned = yield from self._next_generation()
                yield from self._reassign(assigned)
                while self._rejoin_reason is None:
                    yield self._rejoin_needed.next()
                if self._rejoin_reason in LOST:
                    yield from self._lose_all(forget=True)
                elif self._strategy == "range":
                    yield from self._take_away("revoked", self.owned)
        except (KafkaFault, EncodeError) as error:
            self.error = error

    def _next_generation(self) -> Steps[list[TopicPartition]]:
        """Join and sync until it works; return what this member is assigned."""
        while True:
            joined = yield from self._ask(
                "join_group",
                group_id=self._group,
                session_timeout=self._settings.session_timeout_ms,
                rebalance_timeout=max(300_000, self._settings.session_timeout_ms),
                member_id=self._member_id,
                group_instance_id=self._instance,
                protocol_type="consumer",
                protocols=[
                    {"name": self._strategy, "metadata": assignors.write_subscription(self._topics, self.owned)}
                ],
            )
            if joined.error_code:
                if joined.error_code == MEMBER_ID_REQUIRED:
                    self._member_id = joined.member_id
                else:
                    yield from self._handle_error(joined.error_code)
                continue
            self._member_id = joined.member_id
            assignments = (yield from self._assign(joined)) if joined.leader == joined.member_id else []
            synced = yield from self._ask(
                "sync_group",
                group_id=self._group,
                generation_id=joined.generation_id,
                member_id=self._member_id,
                group_instance_id=self._instance,
                assignments=assignments,
            )
            if synced.error_code:
                yield from self._handle_error(synced.error_code)
                continue
            self._generation, self._rejoin_reason = joined.generation_id, None
            return assignors.read_assignment(bytes(synced.assignment))

    def _assign(self, joined: Any) -> Steps[list[dict[str, Any]]]:
        members: list[assignors.Subscriber] = []
        for member in joined.members:
            topics, owned = assignors.read_subscription(bytes(member.metadata))
            name = member.group_instance_id or member.member_id
            members.append(assignors.Subscriber(member.member_id, name, topics, owned))
        wanted = sorted({topic for member in members for topic in member.topics})
        metadata = yield from self._client.metadata(wanted)
        counts = {topic.name: len(topic.partitions) for topic in metadata.topics if not topic.error_code}
        assign = assignors.ranges if self._strategy == "range" else assignors.sticky
        return [
            {"member_id": member_id, "assignment": assignors.write_assignment(partitions)}
            for member_id, partitions in assign(members, counts).items()
        ]

    def _reassign(self, assigned: list[TopicPartition]) -> Steps[None]:
        """Bring the application from what it was assigned before to what it is assigned now."""
        gone = [partition for partition in self.owned if partition not in assigned]
        if gone:
            yield from self._take_away("revoked", gone)
            # Only now may others have them, and they get them in the next generation.
            self._rejoin_reason = REBALANCING
        new = [partition for partition in assigned if partition not in self.owned]
        self.owned = self.owned + new
        yield self._request_change("assigned", new)

    def _take_away(self, change: Change, partitions: list[TopicPartition]) -> Steps[None]:
        if partitions:
            yield self._request_change(change, partitions)
            self.owned = [partition for partition in self.owned if partition not in partitions]

    def _lose_all(self, *, forget: bool) -> Steps[None]:
        self._generation = -1
        if forget:
            self._member_id = ""
        yield from self._take_away("lost", self.owned)

    def _handle_error(self, error: int) -> Steps[None]:
        if error in LOST:
            yield from self._lose_all(forget=error == UNKNOWN_MEMBER)
        elif error in TRANSIENT or error == REBALANCING:
            yield AGAIN
        else:
            raise failure_of(error, f"reading {', '.join(self._topics)} as group {self._group!r}")

    def _send_heartbeats(self) -> Steps[None]:
        """Send heartbeats, whatever else goes on."""
        scheduler = self._client.scheduler
        answered_at = scheduler.now
        while True:
            yield self._settings.heartbeat_ms / 1000
            generation = self._generation
            if generation < 0 or self._rejoin_reason is not None:
                answered_at = scheduler.now
                continue
            answer = yield from self._ask(
                "heartbeat",
                group_id=self._group,
                generation_id=generation,
                member_id=self._member_id,
                group_instance_id=self._instance,
            )
            if generation != self._generation:
                continue
            if scheduler.now - answered_at > self._settings.session_timeout_ms * 1000:
                # The group may have assigned its partitions to others long ago.
                self._rejoin(UNKNOWN_MEMBER)
                # It may be a member again before the next heartbeat, and is not to be silent for having been so once.
                answered_at = scheduler.now
            elif not answer.error_code:
                answered_at = scheduler.now
            elif answer.error_code in LOST or answer.error_code == REBALANCING:
                self._rejoin(answer.error_code)
            elif answer.error_code not in TRANSIENT:
                self.error = failure_of(answer.error_code, f"staying in group {self._group!r}")
                return

    def _look_for_topics(self) -> Steps[None]:
        """Wait until all topics exist; the group then has to assign their partitions."""
        while True:
            answer = yield from self._client.metadata(self._topics)
            missing = [topic.name for topic in answer.topics if topic.error_code]
            deadline = self._client.scheduler.now + int(MISSING_TOPIC_TIMEOUT * 1_000_000)
            appeared = self.missing.keys() - set(missing)
            self.missing = {name: self.missing.get(name, deadline) for name in missing}
            if appeared:
                self._rejoin(REBALANCING)
            if not missing:
                return
            yield TOPIC_CHECK_INTERVAL

    def _rejoin(self, reason: int) -> None:
        self._rejoin_reason = int(reason)
        self._rejoin_needed.notify()

    def _ask(self, api: str, **values: Any) -> Steps[Any]:
        answer = yield from self._client.ask(api, over=self._connection, **values)
        if answer.error_code and answer.error_code not in TRANSIENT:
            self._client.record(f"group {self._group}: {api}: {answer.error_code.name}")
        return answer
