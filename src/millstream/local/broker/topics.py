"""The topics: their ids, configurations and partitions; what is created stays created."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from kio.schema.errors import ErrorCode

from millstream.local.broker.configs import COMPRESSIONS, TOPIC_CONFIGS, check_configs
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.compaction import Compaction
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.partition_log import Retention
from millstream.local.broker.partition import Partition, Rules

log = logging.getLogger(__name__)

MAX_PARTITIONS = 10_000
CLUSTER_METADATA = "__cluster_metadata"
"""The one topic of Apache Kafka's own that no client may make; there is none here."""
_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Topic:
    """A topic and its partitions; `rules` is its configuration, ready for the hot path.

    `retention` and `compaction` are what its `cleanup.policy` asks for, None what it does not; `compaction_rules` hold
    in any case when a topic is compacted by hand.
    """

    def __init__(self, name: str, topic_id: UUID, configs: dict[str, str]) -> None:
        self.name = name
        self.id = topic_id
        self.configs = configs
        self.partitions: list[Partition] = []
        self.configure(configs)

    def configure(self, configs: dict[str, str]) -> None:
        self.configs = configs
        policy = self.config("cleanup.policy")
        compacted = "compact" in policy
        segment_ms = int(self.config("segment.ms"))
        self.compaction_rules = Compaction(
            dirty_ratio=float(self.config("min.cleanable.dirty.ratio")),
            min_lag=int(self.config("min.compaction.lag.ms")),
            max_lag=int(self.config("max.compaction.lag.ms")),
            delete_retention=int(self.config("delete.retention.ms")),
            segment_bytes=int(self.config("segment.bytes")),
        )
        self.compaction = self.compaction_rules if compacted else None
        self.retention = None
        if "delete" in policy:
            self.retention = Retention(int(self.config("retention.ms")), int(self.config("retention.bytes")))
        self.rules = Rules(
            max_bytes=int(self.config("max.message.bytes")),
            roll_at=int(self.config("segment.bytes")),
            roll_after=min(segment_ms, self.compaction_rules.max_lag) if compacted else segment_ms,
            keys_required=compacted,
            append_time=self.config("message.timestamp.type") == "LogAppendTime",
            compression=COMPRESSIONS.get(self.config("compression.type").strip()),
            latest=int(self.config("message.timestamp.after.max.ms")),
            earliest=int(self.config("message.timestamp.before.max.ms")),
        )

    def config(self, name: str) -> str:
        return self.configs.get(name, TOPIC_CONFIGS[name].default)


class Topics:
    """Every topic by name and by id, under `folder`.

    `prepare(partition)` is called for each partition before its first use.
    """

    def __init__(self, folder: Path, files: Files, prepare: Callable[[Partition], None]) -> None:
        self.by_name: dict[str, Topic] = {}
        self.by_id: dict[UUID, Topic] = {}
        self.on_delete: Callable[[Topic], None] = lambda topic: None
        self._names: dict[str, str] = {}
        self.changes = 0
        """Counts up whenever a topic or partition comes or goes."""
        self._folder = folder
        self._files = files
        self._prepare = prepare
        self._list = folder / "topics.json"

    def load(self, checkpoints: Mapping[str, Any]) -> None:
        """Read all topics back; folders that belong to none are left from an interrupted creation or deletion and
        go."""
        entries = json.loads(self._list.read_bytes()) if self._list.exists() else []
        known = {f"{entry['name']}-{index}" for entry in entries for index in range(entry["partitions"])}
        with os.scandir(self._folder) as found:
            for stray in [item.path for item in found if item.is_dir() and item.name not in known]:
                self._files.remove_folder(Path(stray))
        for entry in entries:
            topic = Topic(entry["name"], UUID(entry["id"]), entry["configs"])
            for index in range(entry["partitions"]):
                checkpoint = checkpoints.get(f"{topic.id}-{index}")
                folder = self._folder_of(topic.name, index)
                self._add_partition(topic, Partition.load(topic.name, index, self._files, folder, checkpoint))
            self._add(topic)

    def create(self, name: str, partitions: int, configs: Mapping[str, str], *, validate_only: bool = False) -> Topic:
        """Create a topic, or say what it would be. Raises Refused for a bad name, count or configuration."""
        check_name(name)
        if name in self.by_name:
            raise Refused(ErrorCode.topic_already_exists, f"Topic '{name}' already exists.")
        taken = self._names.get(_in_metrics(name))
        if taken is not None:
            reason = f"Topic '{name}' collides with existing topic: {taken}"
            raise Refused(ErrorCode.invalid_topic_exception, reason)
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise Refused(ErrorCode.invalid_partitions, f"a topic has 1 to {MAX_PARTITIONS} partitions")
        checked = check_configs(configs)
        if validate_only:
            return Topic(name, uuid4(), checked)
        topic = Topic(name, uuid4(), checked)
        try:
            for index in range(partitions):
                self._add_partition(topic, self._new_partition(name, index))
            self._add(topic)
            self._save()
        except OSError as error:
            self._forget(topic)
            self._remove_folders(topic.partitions)
            raise self._storage_error(error) from error
        return topic

    def add_partitions(self, name: str, count: int, *, validate_only: bool = False) -> None:
        """Let the topic have `count` partitions. Raises Refused if it has as many already or does not exist."""
        topic = self.get(name)
        if not len(topic.partitions) < count <= MAX_PARTITIONS:
            had = len(topic.partitions)
            reason = (
                f"The topic {name} currently has {had} partition(s); {count} is no increase up to {MAX_PARTITIONS}."
            )
            raise Refused(ErrorCode.invalid_partitions, reason)
        if validate_only:
            return
        before = len(topic.partitions)
        try:
            for index in range(before, count):
                self._add_partition(topic, self._new_partition(name, index))
            self._save()
        except OSError as error:
            self._remove_folders(topic.partitions[before:])
            del topic.partitions[before:]
            raise self._storage_error(error) from error

    def configure(self, name: str, configs: dict[str, str]) -> None:
        """Replace the configuration of a topic by one that was checked."""
        topic = self.get(name)
        before = topic.configs
        topic.configure(configs)
        try:
            self._save()
        except OSError as error:
            topic.configure(before)
            raise self._storage_error(error) from error

    def delete(self, name: str) -> None:
        """Delete a topic and its records. Raises Refused if there is none."""
        topic = self.get(name)
        self._forget(topic)
        try:
            self._save()
        except OSError as error:
            self._add(topic)
            raise self._storage_error(error) from error
        self.on_delete(topic)
        self._remove_folders(topic.partitions)
        for partition in topic.partitions:
            partition.tell_readers()

    def get(self, name: str) -> Topic:
        topic = self.by_name.get(name)
        if topic is None:
            raise Refused(ErrorCode.unknown_topic_or_partition, f"The topic '{name}' does not exist.")
        return topic

    def partition(self, name: str, index: int) -> Partition | None:
        topic = self.by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    def partitions(self) -> Iterator[tuple[Topic, Partition]]:
        for topic in self.by_name.values():
            for partition in topic.partitions:
                yield topic, partition

    def _new_partition(self, name: str, index: int) -> Partition:
        folder = self._folder_of(name, index)
        self._files.remove_folder(folder)  # an earlier creation that was interrupted
        return Partition.create(name, index, self._files, folder)

    def _add_partition(self, topic: Topic, partition: Partition) -> None:
        self._prepare(partition)
        topic.partitions.append(partition)
        self.changes += 1

    def _add(self, topic: Topic) -> None:
        self.by_name[topic.name] = topic
        self.by_id[topic.id] = topic
        self._names[_in_metrics(topic.name)] = topic.name
        self.changes += 1

    def _forget(self, topic: Topic) -> None:
        self.by_name.pop(topic.name, None)
        self.by_id.pop(topic.id, None)
        self._names.pop(_in_metrics(topic.name), None)
        self.changes += 1

    def _folder_of(self, name: str, index: int) -> Path:
        return self._folder / f"{name}-{index}"

    def _remove_folders(self, partitions: list[Partition]) -> None:
        """What cannot be removed now is at the next start, for no topic has it."""
        for partition in partitions:
            try:
                self._files.remove_folder(partition.log.folder)
            except OSError as error:
                log.warning(
                    "cannot remove %s yet: %s",
                    partition.log.folder,
                    error.strerror,
                    extra={"code": "topic_not_removed"},
                )

    def _storage_error(self, error: OSError) -> Refused:
        return Refused(ErrorCode.kafka_storage_error, f"cannot write in {self._folder}: {error.strerror}")

    def _save(self) -> None:
        entries = [
            {"name": t.name, "id": str(t.id), "partitions": len(t.partitions), "configs": t.configs}
            for t in self.by_name.values()
        ]
        self._files.replace(self._list, json.dumps(entries).encode(), durable=True)


def check_name(name: str) -> None:
    """Raises Refused for a name that no topic may have."""
    if name == CLUSTER_METADATA:
        raise Refused(ErrorCode.invalid_request, f"Creation of internal topic {name} is prohibited.")
    if not _LEGAL_NAME.fullmatch(name) or name in (".", ".."):
        reason = f"Topic name is invalid: '{name}' is not 1 to 249 of a-z A-Z 0-9 . _ -, or it is '.' or '..'"
        raise Refused(ErrorCode.invalid_topic_exception, reason)


def _in_metrics(name: str) -> str:
    """Names that differ only in these would share their metrics in Apache Kafka."""
    return name.replace(".", "_")
