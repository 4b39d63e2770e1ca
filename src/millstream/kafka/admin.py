"""Questions to the cluster, and topics made and deleted, on librdkafka."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import KafkaError, KafkaException, NewPartitions, NewTopic
from confluent_kafka.cimpl import TopicPartition as Native

from millstream.errors import ConfigurationError, TopicMissing, Unavailable
from millstream.kafka import properties
from millstream.kafka.faults import MISSING, fault, in_use, kafka_error, made, too_few
from millstream.kafka.lag import lags_of
from millstream.kafka.metadata_wait import wait_for_metadata
from millstream.kafka.port import (
    BEGINNING,
    END,
    Committed,
    Isolation,
    Offsets,
    PartitionLag,
    TopicInfo,
    TopicPartition,
    TopicSpec,
)
from millstream.kafka.read import read_to_ends
from millstream.settings import Settings
from millstream.timeouts import CHANGE_TIMEOUT, REQUEST_TIMEOUT

T = TypeVar("T")

NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id that librdkafka gives to a topic of brokers that know none."""
GROUP_IN_USE = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.FENCED_INSTANCE_ID})


class ClusterAdmin:
    """`millstream.kafka.port.Admin` over librdkafka; see there for the contract."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._reading = properties.reader(settings, client_id, "read_committed")
        # Kept for the whole life of this object: an AdminClient that is dropped takes its pending answers with it.
        self._native = made(AdminClient, properties.client(settings, client_id) | properties.outside_groups(settings))

    def cluster_id(self, timeout: float = REQUEST_TIMEOUT) -> str:
        try:
            return self._native.cluster_id(timeout=timeout)
        except KafkaException as raised:
            raise fault(raised, f"asking {self._settings.bootstrap_servers} for the cluster's id") from raised

    def brokers(self, timeout: float = REQUEST_TIMEOUT) -> list[str]:
        found = self._metadata(timeout).brokers.values()
        return [f"{broker.host}:{broker.port}" for broker in sorted(found, key=lambda broker: broker.id)]

    def topics(self, timeout: float = REQUEST_TIMEOUT) -> dict[str, TopicInfo]:
        found = self._metadata(timeout).topics
        return {
            name: TopicInfo(
                name, len(topic.partitions), max((len(p.replicas) for p in topic.partitions.values()), default=0)
            )
            for name, topic in sorted(found.items())
            if topic.error is None
        }

    def topic_config(self, topic: str, timeout: float = REQUEST_TIMEOUT) -> dict[str, str]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        futures = self._native.describe_configs([resource], request_timeout=timeout)
        entries = self._answer(futures[resource], f"asking for the configuration of {topic!r}", timeout)
        return {name: entry.value for name, entry in sorted(entries.items()) if entry.value is not None}

    def ensure_topics(self, specs: Sequence[TopicSpec], timeout: float = CHANGE_TIMEOUT) -> list[str]:
        deadline = time.monotonic() + timeout
        wanted = {spec.name: spec for spec in specs}
        created: dict[str, None] = {}
        found = self._metadata(timeout)
        while True:
            # Compared at each look: a broker may still list a topic whose deletion it has not heard of.
            missing = [spec for name, spec in wanted.items() if name not in found.topics]
            created |= dict.fromkeys(self._create(missing, len(found.brokers), deadline))
            found = self._metadata(5.0)
            waiting = _not_ready(wanted, found)
            if not waiting:
                return list(created)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Topics without a leader after {timeout:g} s: {', '.join(waiting)}. Are brokers down?"
                )
            time.sleep(0.05)  # between two looks

    def _create(self, specs: Sequence[TopicSpec], brokers: int, deadline: float) -> list[str]:
        copies = self._settings.replication_factor or min(3, brokers)
        durable = {"min.insync.replicas": "2"} if copies >= 3 else {}
        pending = {spec.name: spec for spec in specs}
        made: list[str] = []
        while pending:
            left = max(1.0, deadline - time.monotonic())
            new = [
                NewTopic(spec.name, spec.partitions, copies, config={**durable, **spec.config})
                for spec in pending.values()
            ]
            for name, future in self._native.create_topics(new, operation_timeout=left, request_timeout=left).items():
                error = _error_of(future, left)
                if error is None:
                    made.append(name)
                elif error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    failure = fault(error, f"creating topic {name!r}")
                    if not isinstance(failure, Unavailable) or time.monotonic() > deadline:
                        raise failure
                    continue
                del pending[name]
            if pending:
                time.sleep(0.2)  # before brokers are asked again
        return made

    def delete_topics(self, names: Sequence[str], timeout: float = CHANGE_TIMEOUT) -> None:
        if not names:
            return
        futures = self._native.delete_topics(list(names), operation_timeout=timeout, request_timeout=timeout)
        for name, future in futures.items():
            self._answer(future, f"deleting topic {name!r}", timeout)

    def topic_ids(self, topics: Sequence[str], timeout: float = REQUEST_TIMEOUT) -> dict[str, str]:
        if not topics:
            return {}
        futures = self._native.describe_topics(TopicCollection(list(dict.fromkeys(topics))), request_timeout=timeout)
        found: dict[str, str] = {}
        for name, future in futures.items():
            try:
                id = str(future.result(timeout + 5.0).topic_id)
            except (KafkaException, TimeoutError) as raised:
                if kafka_error(raised).code() not in MISSING:
                    raise fault(raised, f"asking for the id of topic {name!r}") from raised
            else:
                found[name] = "" if id == NO_ID else id
        return found

    def grow_topics(self, partitions: Mapping[str, int], timeout: float = CHANGE_TIMEOUT) -> None:
        if not partitions:
            return
        new = [NewPartitions(name, count) for name, count in partitions.items()]
        deadline = time.monotonic() + timeout
        for name, future in self._native.create_partitions(
            new, operation_timeout=timeout, request_timeout=timeout
        ).items():
            error = _error_of(future, timeout)
            if error is not None and error.code() == KafkaError.INVALID_PARTITIONS:
                raise ConfigurationError(f"Topic {name!r} cannot have {partitions[name]} partitions: {error.str()}")
            if error is not None:
                raise fault(error, f"adding partitions to topic {name!r}")
        while waiting := self._without_leaders(partitions):
            if time.monotonic() > deadline:
                raise Unavailable(f"New partitions without a leader after {timeout:g} s: {', '.join(waiting)}.")
            time.sleep(0.05)  # between two looks

    def _without_leaders(self, partitions: Mapping[str, int]) -> list[str]:
        found = self._metadata(5.0).topics
        return [
            name
            for name, count in partitions.items()
            if name not in found
            or len(found[name].partitions) < count
            or any(partition.leader < 0 for partition in found[name].partitions.values())
        ]

    def groups(self, timeout: float = REQUEST_TIMEOUT) -> list[str]:
        future = self._native.list_consumer_groups(request_timeout=timeout)
        listed = self._answer(future, "listing consumer groups", timeout)
        return sorted(group.group_id for group in listed.valid)

    def group_offsets(self, group: str, timeout: float = REQUEST_TIMEOUT) -> dict[TopicPartition, Committed]:
        futures = self._native.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], require_stable=True, request_timeout=timeout
        )
        return self._committed(group, futures[group], timeout)

    def _committed(
        self, group: str, future: "Future[ConsumerGroupTopicPartitions]", timeout: float
    ) -> dict[TopicPartition, Committed]:
        found = self._answer(future, f"asking what group {group!r} has committed", timeout)
        return {
            (entry.topic, entry.partition): Committed(entry.offset if entry.offset >= 0 else None, entry.metadata or "")
            for entry in found.topic_partitions or ()
        }

    def group_members(self, group: str, timeout: float = REQUEST_TIMEOUT) -> int:
        future = self._native.describe_consumer_groups([group], request_timeout=timeout)[group]
        try:
            return len(future.result(timeout + 5.0).members or ())
        except (KafkaException, TimeoutError) as raised:
            if kafka_error(raised).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise fault(raised, f"asking who is in group {group!r}") from raised

    def set_group_offsets(self, group: str, offsets: Offsets, timeout: float = REQUEST_TIMEOUT) -> None:
        if not offsets:
            return
        wanted = ConsumerGroupTopicPartitions(group, [Native(*at, offset) for at, offset in offsets.items()])
        wait_for_metadata(lambda left: self._set_offsets(group, wanted, left), timeout)

    def _set_offsets(self, group: str, wanted: ConsumerGroupTopicPartitions, timeout: float) -> None:
        future = self._native.alter_consumer_group_offsets([wanted], request_timeout=timeout)[group]
        error = _error_of(future, timeout)
        if error is None:
            answered = future.result().topic_partitions or ()
            error = next((entry.error for entry in answered if entry.error is not None), None)
        if error is not None and error.code() in GROUP_IN_USE:
            raise ConfigurationError(in_use(group))
        if error is not None:
            raise fault(error, f"setting the offsets of group {group!r}")

    def group_lag(self, group: str, topics: Sequence[str] = (), timeout: float = REQUEST_TIMEOUT) -> list[PartitionLag]:
        return self.group_lags({group: topics}, timeout)[group]

    def group_lags(
        self, groups: Mapping[str, Sequence[str]], timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, list[PartitionLag]]:
        # All are asked before the first answer is waited for: librdkafka takes one group a call.
        asked = {
            group: self._native.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], require_stable=True, request_timeout=timeout
            )[group]
            for group in groups
        }
        committed = {group: self._committed(group, future, timeout) for group, future in asked.items()}
        return lags_of(self, partial(read_to_ends, self._reading), committed, groups, timeout)

    def end_offsets(
        self,
        partitions: Sequence[TopicPartition],
        isolation: Isolation = "read_committed",
        timeout: float = REQUEST_TIMEOUT,
    ) -> dict[TopicPartition, int]:
        return self._offsets(partitions, OffsetSpec.latest(), isolation, timeout)

    def offsets_at(
        self, partitions: Sequence[TopicPartition], milliseconds: int, timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, int]:
        if milliseconds == END:
            return self.end_offsets(partitions, timeout=timeout)
        spec = OffsetSpec.earliest() if milliseconds == BEGINNING else OffsetSpec.for_timestamp(milliseconds)
        found = self._offsets(partitions, spec, "read_committed", timeout)
        nothing_later = [at for at, offset in found.items() if offset < 0]
        return found | self.end_offsets(nothing_later, timeout=timeout)

    def _offsets(
        self, partitions: Sequence[TopicPartition], spec: Any, isolation: Isolation, timeout: float
    ) -> dict[TopicPartition, int]:
        level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
        wanted = {Native(*key): spec for key in partitions}
        if not wanted:
            return {}

        def ask(left: float) -> dict[TopicPartition, int]:
            futures = self._native.list_offsets(wanted, isolation_level=level, request_timeout=left)
            try:
                return {
                    (entry.topic, entry.partition): self._answer(
                        future, f"asking where {entry.topic} ends", left
                    ).offset
                    for entry, future in futures.items()
                }
            except Unavailable as unavailable:
                if _knows_old_leaders(unavailable):
                    self._begin_anew()
                raise

        return wait_for_metadata(ask, timeout)

    def partitions(self, topic: str, timeout: float = REQUEST_TIMEOUT) -> int:
        """The number of partitions of `topic`. Raises `TopicMissing`."""
        found = self.topics(timeout).get(topic)
        if found is None:
            raise TopicMissing(f"Topic {topic!r} does not exist. Check its name and MILLSTREAM_BOOTSTRAP_SERVERS.")
        return found.partitions

    def close(self) -> None:
        self._native.__exit__(None, None, None)

    def _begin_anew(self) -> None:
        """A client that remembers the leaders of before asks with their epochs for ever: librdkafka looks for new
        leaders when one is gone, not when it came back under another epoch."""
        before = self._native
        self._native = made(
            AdminClient, properties.client(self._settings, self._client_id) | properties.outside_groups(self._settings)
        )
        before.__exit__(None, None, None)

    def _metadata(self, timeout: float) -> ClusterMetadata:
        try:
            return self._native.list_topics(timeout=timeout)
        except KafkaException as raised:
            raise fault(raised, f"asking {self._settings.bootstrap_servers} for its topics") from raised

    @staticmethod
    def _answer(future: "Future[T]", doing: str, timeout: float) -> T:
        try:
            # librdkafka keeps the bound; ours is for an answer that got lost on the way.
            return future.result(timeout + 5.0)
        except (KafkaException, TimeoutError) as raised:
            raise fault(raised, doing) from raised


def _not_ready(wanted: Mapping[str, TopicSpec], found: ClusterMetadata) -> list[str]:
    waiting: list[str] = []
    for name, spec in wanted.items():
        topic = found.topics.get(name)
        if topic is None or topic.error is not None or not topic.partitions:
            waiting.append(name)
            continue
        if len(topic.partitions) < spec.partitions:
            raise ConfigurationError(too_few(name, len(topic.partitions), spec.partitions))
        if any(partition.leader < 0 for partition in topic.partitions.values()):
            waiting.append(name)
    return waiting


def _knows_old_leaders(unavailable: Unavailable) -> bool:
    cause = unavailable.__cause__
    codes = (KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH)
    return isinstance(cause, KafkaException) and kafka_error(cause).code() in codes


def _error_of(future: "Future[Any]", timeout: float) -> KafkaError | None:
    try:
        future.result(timeout + 5.0)
    except KafkaException as raised:
        return kafka_error(raised)
    return None
