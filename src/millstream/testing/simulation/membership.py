"""A consumer's part in its group: joining, heartbeats, and what changes hands. It goes on beside the application."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from millstream.errors import EncodeError, KafkaFault
from millstream.kafka.port import TopicPartition
from millstream.settings import Settings
from millstream.testing.simulation import assigning
from millstream.testing.simulation.client import AGAIN, PASSING, Client, failure_of
from millstream.testing.simulation.network import Connection
from millstream.testing.simulation.tasks import Awaited, Signal, Steps

MISSING_GRACE = 5.0
"""Seconds that a topic may be unknown; librdkafka's port waits as long."""
LOOK_FOR_TOPICS = 0.25
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, MEMBER_ID_REQUIRED = 22, 25, 27, 79
LOST = frozenset({ILLEGAL_GENERATION, UNKNOWN_MEMBER})

How = Literal["assigned", "revoked", "lost"]
Change = Callable[[How, list[TopicPartition]], Awaited[None]]
"""Asks the application to take or to give up partitions; done when it has."""


class GroupMetadata(NamedTuple):
    """Who commits: what `Consumer.group_metadata` answers."""

    group: str
    generation: int
    member_id: str
    instance: str | None


class Membership:
    """One member of a group. `error`: why it cannot be one any more."""

    def __init__(
        self, client: Client, group: str, instance: str | None, strategy: str, settings: Settings, change: Change
    ) -> None:
        self.error: KafkaFault | EncodeError | None = None
        self.owned: list[TopicPartition] = []
        self.missing: dict[str, int] = {}
        """Topics that are not there, and when patience with them ends."""
        self._client = client
        self._group = group
        self._instance = instance
        self._strategy = strategy
        self._settings = settings
        self._change = change
        self._topics: list[str] = []
        self._member_id = ""
        self._generation = -1
        self._trouble: int | None = None
        self._troubled = Signal()
        self._connection = Connection(client.world.broker, client.life, client.client_id)
        self._tasks: list[Any] = []

    @property
    def metadata(self) -> GroupMetadata:
        return GroupMetadata(self._group, self._generation, self._member_id, self._instance)

    def subscribe(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)
        life = self._client.life
        self._tasks = [life.task(steps) for steps in (self._look_for_topics(), self._take_part(), self._live())]

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

    def _take_part(self) -> Steps[None]:
        try:
            while True:
                assigned = yield from self._next_generation()
                yield from self._hand_over(assigned)
                while self._trouble is None:
                    yield self._troubled.next()
                if self._trouble in LOST:
                    yield from self._lose(forget=True)
                elif self._strategy == "range":
                    yield from self._give_up("revoked", self.owned)
        except (KafkaFault, EncodeError) as error:
            self.error = error

    def _next_generation(self) -> Steps[list[TopicPartition]]:
        """Join and sync until it works; what this member has got."""
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
                    {"name": self._strategy, "metadata": assigning.write_subscription(self._topics, self.owned)}
                ],
            )
            if joined.error_code:
                if joined.error_code == MEMBER_ID_REQUIRED:
                    self._member_id = joined.member_id
                else:
                    yield from self._deal_with(joined.error_code)
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
                yield from self._deal_with(synced.error_code)
                continue
            self._generation, self._trouble = joined.generation_id, None
            return assigning.read_assignment(bytes(synced.assignment))

    def _assign(self, joined: Any) -> Steps[list[dict[str, Any]]]:
        members: list[assigning.Subscriber] = []
        for member in joined.members:
            topics, owned = assigning.read_subscription(bytes(member.metadata))
            name = member.group_instance_id or member.member_id
            members.append(assigning.Subscriber(member.member_id, name, topics, owned))
        wanted = sorted({topic for member in members for topic in member.topics})
        metadata = yield from self._client.metadata(wanted)
        counts = {topic.name: len(topic.partitions) for topic in metadata.topics if not topic.error_code}
        assign = assigning.ranges if self._strategy == "range" else assigning.sticky
        return [
            {"member_id": member_id, "assignment": assigning.write_assignment(partitions)}
            for member_id, partitions in assign(members, counts).items()
        ]

    def _hand_over(self, assigned: list[TopicPartition]) -> Steps[None]:
        """Bring the application from what it had to what it has now."""
        gone = [partition for partition in self.owned if partition not in assigned]
        if gone:
            yield from self._give_up("revoked", gone)
            # Only now may the others have them, and they get them in the next generation.
            self._trouble = REBALANCING
        new = [partition for partition in assigned if partition not in self.owned]
        self.owned = self.owned + new
        yield self._change("assigned", new)

    def _give_up(self, how: How, partitions: list[TopicPartition]) -> Steps[None]:
        if partitions:
            yield self._change(how, partitions)
            self.owned = [partition for partition in self.owned if partition not in partitions]

    def _lose(self, *, forget: bool) -> Steps[None]:
        self._generation = -1
        if forget:
            self._member_id = ""
        yield from self._give_up("lost", self.owned)

    def _deal_with(self, error: int) -> Steps[None]:
        if error in LOST:
            yield from self._lose(forget=error == UNKNOWN_MEMBER)
        elif error in PASSING or error == REBALANCING:
            yield AGAIN
        else:
            raise failure_of(error, f"reading {', '.join(self._topics)} as group {self._group!r}")

    # Beside it

    def _live(self) -> Steps[None]:
        """Send heartbeats, whatever else goes on."""
        world = self._client.world
        heard_at = world.now
        while True:
            yield self._settings.heartbeat_ms / 1000
            generation = self._generation
            if generation < 0 or self._trouble is not None:
                heard_at = world.now
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
            if world.now - heard_at > self._settings.session_timeout_ms * 1000:
                # Others may have been given the work long ago.
                self._say(UNKNOWN_MEMBER)
                # It may be a member again before the next heartbeat, and is not to be silent for having been so once.
                heard_at = world.now
            elif not answer.error_code:
                heard_at = world.now
            elif answer.error_code in LOST or answer.error_code == REBALANCING:
                self._say(answer.error_code)
            elif answer.error_code not in PASSING:
                self.error = failure_of(answer.error_code, f"staying in group {self._group!r}")
                return

    def _look_for_topics(self) -> Steps[None]:
        """Until all are there; then the group has to share them out."""
        while True:
            answer = yield from self._client.metadata(self._topics)
            missing = [topic.name for topic in answer.topics if topic.error_code]
            patience = self._client.world.now + int(MISSING_GRACE * 1_000_000)
            came = self.missing.keys() - set(missing)
            self.missing = {name: self.missing.get(name, patience) for name in missing}
            if came:
                self._say(REBALANCING)
            if not missing:
                return
            yield LOOK_FOR_TOPICS

    def _say(self, trouble: int) -> None:
        self._trouble = int(trouble)
        self._troubled.give()

    def _ask(self, api: str, **values: Any) -> Steps[Any]:
        answer = yield from self._client.ask(api, over=self._connection, **values)
        if answer.error_code and answer.error_code not in PASSING:
            self._client.tell(f"group {self._group}: {api}: {answer.error_code.name}")
        return answer
