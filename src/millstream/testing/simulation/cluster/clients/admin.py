"""A simulated admin client."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from millstream.errors import ConfigurationError, TopicMissing
from millstream.kafka.faults import in_use, too_few
from millstream.kafka.lag import lags_of
from millstream.kafka.port import (
    END,
    Committed,
    Isolation,
    Offsets,
    PartitionLag,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)
from millstream.settings import Settings
from millstream.testing.simulation.cluster.clients.client import (
    AGAIN,
    LATEST,
    TRANSIENT,
    Client,
    failure_of,
    offsets_by_topic,
)
from millstream.testing.simulation.cluster.clients.partition_reader import read_to_end
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.scheduler.tasks import Steps
from millstream.timeouts import CHANGE_TIMEOUT, REQUEST_TIMEOUT

T = TypeVar("T")

ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
UNKNOWN_MEMBER = 25
TOPIC = 2
MAX_DESCRIBED = 2_000
"""Partitions in one answer: many more than the topics of a simulated system have."""


class SimulatedAdmin(Client):
    """`millstream.kafka.port.Admin`; see there for the contract."""

    def __init__(self, host: Host, settings: Settings, client_id: str) -> None:
        super().__init__(host, client_id)
        self._settings = settings

    def cluster_id(self, timeout: float = REQUEST_TIMEOUT) -> str:
        return self._metadata([], timeout).cluster_id

    def brokers(self, timeout: float = REQUEST_TIMEOUT) -> list[str]:
        return [f"{broker.host}:{broker.port}" for broker in self._metadata([], timeout).brokers]

    def topics(self, timeout: float = REQUEST_TIMEOUT) -> dict[str, TopicInfo]:
        return {
            topic.name: TopicInfo(topic.name, len(topic.partitions), 1)
            for topic in self._metadata(None, timeout).topics
            if not topic.is_internal
        }

    def topic_config(self, topic: str, timeout: float = REQUEST_TIMEOUT) -> dict[str, str]:
        doing = f"asking for the configuration of topic {topic!r}"
        wanted = [{"resource_type": TOPIC, "resource_name": topic, "configuration_keys": None}]
        answer = self.do(self.ask("describe_configs", resources=wanted), timeout, doing).results[0]
        if answer.error_code:
            raise failure_of(answer.error_code, doing)
        return {entry.name: entry.value for entry in answer.configs if entry.value is not None}

    def ensure_topics(self, specs: Sequence[TopicSpec], timeout: float = CHANGE_TIMEOUT) -> list[str]:
        wanted = {spec.name: spec for spec in specs}
        return self.do(self._ensure(wanted), timeout, f"creating topics {', '.join(wanted)}")

    def delete_topics(self, names: Sequence[str], timeout: float = CHANGE_TIMEOUT) -> None:
        if names:
            steps = self.ask("delete_topics", topic_names=list(names), timeout=int(timeout * 1000))
            for result in self.do(steps, timeout, f"deleting topics {', '.join(names)}").responses:
                if result.error_code:
                    raise failure_of(result.error_code, f"deleting topic {result.name!r}")

    def topic_ids(self, topics: Sequence[str], timeout: float = REQUEST_TIMEOUT) -> dict[str, str]:
        wanted = [{"name": name} for name in dict.fromkeys(topics)]
        if not wanted:
            return {}
        steps = self.ask("describe_topic_partitions", topics=wanted, response_partition_limit=MAX_DESCRIBED)
        found = self.do(steps, timeout, "asking for the ids of topics").topics
        return {topic.name: _text_of(topic.topic_id) for topic in found if not topic.error_code}

    def grow_topics(self, partitions: Mapping[str, int], timeout: float = CHANGE_TIMEOUT) -> None:
        if not partitions:
            return
        wanted = [{"name": name, "count": count, "assignments": None} for name, count in partitions.items()]
        doing = f"adding partitions to {', '.join(partitions)}"
        steps = self.ask("create_partitions", topics=wanted, timeout=int(timeout * 1000), validate_only=False)
        for result in self.do(steps, timeout, doing).results:
            if result.error_code == INVALID_PARTITIONS:
                raise ConfigurationError(
                    f"Topic {result.name!r} cannot have {partitions[result.name]} partitions: {result.error_message}"
                )
            if result.error_code:
                raise failure_of(result.error_code, f"adding partitions to topic {result.name!r}")

    def groups(self, timeout: float = REQUEST_TIMEOUT) -> list[str]:
        answer = self.do(self.ask("list_groups"), timeout, "listing consumer groups")
        return sorted(group.group_id for group in answer.groups)

    def group_offsets(self, group: str, timeout: float = REQUEST_TIMEOUT) -> dict[TopicPartition, Committed]:
        doing = f"asking what group {group!r} has committed"
        found = self.do(self.committed_offsets(group, None, doing), timeout, doing)
        return {key: Committed(offset if offset >= 0 else None, note) for key, (offset, note) in found.items()}

    def group_members(self, group: str, timeout: float = REQUEST_TIMEOUT) -> int:
        doing = f"asking who is in group {group!r}"
        answer = self.do(self.ask("describe_groups", groups=[group]), timeout, doing)
        return sum(len(found.members) for found in answer.groups)

    def set_group_offsets(self, group: str, offsets: Offsets, timeout: float = REQUEST_TIMEOUT) -> None:
        if not offsets:
            return
        doing = f"setting the offsets of group {group!r}"
        steps = self.ask(
            "offset_commit",
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            group_instance_id=None,
            topics=offsets_by_topic(offsets, {}),
        )
        answer = self.do(steps, timeout, doing)
        errors = [entry.error_code for topic in answer.topics for entry in topic.partitions if entry.error_code]
        if UNKNOWN_MEMBER in errors:
            raise ConfigurationError(in_use(group))
        if errors:
            raise failure_of(errors[0], doing)

    def group_lag(self, group: str, topics: Sequence[str] = (), timeout: float = REQUEST_TIMEOUT) -> list[PartitionLag]:
        return self.group_lags({group: topics}, timeout)[group]

    def group_lags(
        self, groups: Mapping[str, Sequence[str]], timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, list[PartitionLag]]:
        committed = {group: self.group_offsets(group, timeout) for group in groups}
        return lags_of(self, self._read, committed, groups, timeout)

    def end_offsets(
        self,
        partitions: Sequence[TopicPartition],
        isolation: Isolation = "read_committed",
        timeout: float = REQUEST_TIMEOUT,
    ) -> dict[TopicPartition, int]:
        doing = "asking for the ends"
        return self.do(self.offsets_now(dict.fromkeys(partitions, LATEST), isolation, doing), timeout, doing)

    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int, timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, int]:
        if milliseconds == END:
            return self.end_offsets(partitions, timeout=timeout)
        doing = "asking for offsets by time"
        wanted = dict.fromkeys(partitions, milliseconds)
        found = self.do(self.offsets_now(wanted, "read_committed", doing), timeout, doing)
        nothing_later = [at for at, offset in found.items() if offset < 0]
        return found | self.end_offsets(nothing_later, timeout=timeout)

    def close(self) -> None:
        self.connection.close()

    def _read(self, starts: Offsets, ends: Offsets, timeout: float) -> Any:
        del ends  # a reader here asks for all of them at once
        return read_to_end(self.host, self.client_id, starts, "read_committed", timeout)

    def _metadata(self, topics: Sequence[str] | None, timeout: float) -> Any:
        return self.do(self.metadata(topics), timeout, "asking for topics")

    def _ensure(self, wanted: Mapping[str, TopicSpec]) -> Steps[list[str]]:
        made: list[str] = []
        while True:
            metadata = yield from self.metadata(list(wanted))
            counts = {topic.name: len(topic.partitions) for topic in metadata.topics if not topic.error_code}
            for name, count in counts.items():
                if count < wanted[name].partitions:
                    raise ConfigurationError(too_few(name, count, wanted[name].partitions))
            missing = [spec for name, spec in wanted.items() if name not in counts]
            if not missing:
                return made
            answer = yield from self.ask("create_topics", topics=[_new(spec) for spec in missing], timeout=30_000)
            for topic in answer.topics:
                if not topic.error_code:
                    made.append(topic.name)
                    self.record(f"creates topic {topic.name}")
                elif topic.error_code != ALREADY_EXISTS and topic.error_code not in TRANSIENT:
                    raise failure_of(topic.error_code, f"creating topic {topic.name!r}")
            yield AGAIN


def partitions_of(admin: SimulatedAdmin, topic: str) -> int:
    """Return how many partitions `topic` has. Raises `TopicMissing`."""
    found = admin.topics().get(topic)
    if found is None:
        raise TopicMissing(f"Topic {topic!r} does not exist. Check its name.")
    return found.partitions


def _text_of(id: UUID) -> str:
    """Write a topic's id as librdkafka does."""
    return base64.urlsafe_b64encode(id.bytes).decode().rstrip("=")


def _new(spec: TopicSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "num_partitions": spec.partitions,
        "replication_factor": 1,
        "configs": [{"name": name, "value": value} for name, value in spec.config.items()],
    }
