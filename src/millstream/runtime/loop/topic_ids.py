"""The ids of the topics that positions belong to: a topic that was deleted and created again has another one."""

from collections.abc import Iterable, Mapping

from millstream.errors import ConfigurationError, TopicReplaced
from millstream.kafka.port import Committed, Kafka, Offsets, TopicPartition
from millstream.runtime.loop.commit_note import CommitNote, cluster_token, read_note, topic_token
from millstream.telemetry import get_logger

log = get_logger(__name__)


class TopicIds:
    """The ids of the topics that a worker reads, and of those that hold its state, as they were when it last asked.

    - `read`: the topics that it consumes.
    - `state`: its changelogs and what else holds its state in Kafka. Positions that are committed name them: state that
      belongs to other topics is not the state that those positions were made with.
    """

    def __init__(self, kafka: Kafka, group: str, read: Iterable[str], state: Iterable[str] = ()) -> None:
        self._kafka = kafka
        self._group = group
        self._read = tuple(dict.fromkeys(read))
        self._state = tuple(dict.fromkeys(state))
        self._cluster = ""
        self.ids: dict[str, str] = {}
        """By topic. It is the same dictionary as long as this object exists."""

    def refresh(self) -> Mapping[str, str]:
        """Ask the cluster. Called when partitions are assigned. Raises `Unavailable`."""
        found, self._cluster = self._ask()
        self.ids.clear()
        self.ids.update(found)
        return self.ids

    def check(self) -> None:
        """Raise `TopicReplaced` where a topic has another id than when partitions were assigned."""
        found, _ = self._ask()
        for topic, id in found.items():
            if (before := self.ids.get(topic)) and id and before != id:
                raise TopicReplaced(replaced(topic, f"group {self._group!r} worked with it"))

    def note(self, topic: str, offset: int, *, done: str = "", mark: str = "") -> str:
        """Return the metadata to commit with `offset`, so that it is not taken for one of another topic or cluster."""
        return CommitNote(
            cluster=self._cluster,
            topic=self.ids.get(topic, ""),
            offset=offset,
            state=tuple(topic_token(name, self.ids.get(name, "")) for name in self._state),
            done=done,
            mark=mark,
        ).text()

    def valid(self, committed: Mapping[TopicPartition, Committed]) -> dict[TopicPartition, Committed]:
        """Return the committed offsets that are valid for the present topics and cluster; `metadata` has the done
        ranges.

        - Committed for a deleted topic: nothing of the present one has been read, so there is no offset.
        - A copy from another cluster, or an offset that a tool has set: the offset counts, and nothing beside it.

        Raises `ConfigurationError` where a topic with state was created again after the position was committed.
        """
        return {at: self._valid(at, found) for at, found in committed.items()}

    def starts(self, committed: Mapping[TopicPartition, Committed], otherwise: int) -> Offsets:
        """Return where to read on: `otherwise` where nothing is committed."""
        found = self.valid(committed)
        return {at: otherwise if here.offset is None else here.offset for at, here in found.items()}

    def _valid(self, at: TopicPartition, found: Committed) -> Committed:
        note = read_note(found.metadata)
        if found.offset is None or note is None:
            return Committed(found.offset)
        if note.cluster != self._cluster:
            log.warning(
                "the committed offset is a copy from another cluster; what was done beyond it is not taken over",
                code="offset_from_another_cluster",
                group=self._group,
                topic=at[0],
                partition=at[1],
                offset=found.offset,
            )
            return Committed(found.offset)
        id = self.ids.get(at[0], "")
        if note.topic and id and note.topic != id:
            log.warning(
                "the topic was deleted and made again; it is read from its start",
                code="topic_replaced",
                group=self._group,
                topic=at[0],
                partition=at[1],
                offset=found.offset,
            )
            return Committed(None)
        if note.offset != found.offset:
            return Committed(found.offset)
        self._check_state(note)
        return Committed(found.offset, note.done)

    def _check_state(self, note: CommitNote) -> None:
        then = dict(token.split(":", 1) for token in note.state)
        for topic in self._state:
            name, _, id = topic_token(topic, self.ids.get(topic, "")).partition(":")
            if then.get(name) and id and then[name] != id:
                raise ConfigurationError(
                    f"The topic {topic!r}, which holds state of group {self._group!r}, was deleted and made again: "
                    "what it held is lost, and events that led to it are past. Put its records back from a backup, or "
                    "stop the service and say what it shall do without them: `millstream reset SERVICE --to earliest` "
                    "handles all events again, `--to current` goes on with what state there is"
                )

    def _ask(self) -> tuple[dict[str, str], str]:
        admin = self._kafka.admin()
        try:
            return admin.topic_ids([*self._read, *self._state]), cluster_token(admin.cluster_id())
        finally:
            admin.close()


def replaced(topic: str, when: str) -> str:
    """Say that a topic is another one now."""
    return (
        f"Topic {topic!r} was deleted and made again while {when}. This process ends, and starts again with the topic "
        "as it is now."
    )
