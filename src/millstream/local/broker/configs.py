"""Configurations of topics and of the broker: names, defaults, what values they take."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import Refused
from millstream.local.broker.log.codecs import GZIP, LZ4, SNAPPY, ZSTD


class ConfigType:
    """The protocol's numbers for the type of a configuration."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Config(NamedTuple):
    """`expects` says why a value is refused; `synonym` is the broker's configuration that gives the default."""

    default: str
    type: int
    check: Callable[[str], bool]
    expects: str
    says: str
    synonym: str | None = None


COMPRESSIONS = {"uncompressed": 0, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
"""What a topic can ask for instead of the producer's choice, with the number that a batch bears."""

_SETS = frozenset({"cleanup.policy"})
"""Lists in which nothing stands twice."""
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LONG = 2**63 - 1
_INT = 2**31 - 1
_NO_TIERS = "there is no tiered storage here: only {} is taken"

_Check = tuple[Callable[[str], bool], str]


def _whole(low: int, high: int = _LONG) -> _Check:
    def check(text: str) -> bool:
        return _WHOLE.fullmatch(text.strip()) is not None and low <= int(text) <= high

    return check, f"a whole number from {low} to {high} is wanted"


def _one_of(*values: str) -> _Check:
    return lambda text: text.strip() in values, "one of these is wanted: " + ", ".join(values)


def _only(value: str, why: str) -> _Check:
    return lambda text: text.strip().lower() == value, why.format(value)


def _gzip_level(text: str) -> bool:
    return text.strip() == "-1" or _whole(1, 9)[0](text)


def _policies(text: str) -> bool:
    return not text or all(policy.strip() in ("delete", "compact") for policy in text.split(","))


def _ratio(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:  # no number, so no valid value
        return False


def _replicas(text: str) -> bool:
    return text in ("", "*") or all(re.fullmatch(r"[0-9]+:[0-9]+", entry.strip()) for entry in text.split(","))


_BOOLEAN: _Check = (lambda text: text.strip().lower() in ("true", "false"), "true or false is wanted")
_REPLICAS: _Check = (_replicas, "* or a list of PARTITION:BROKER is wanted")
_NEVER_FLUSHED = "how the broker was started decides when it flushes: only {} is taken"

TOPIC_CONFIGS: Mapping[str, Config] = {
    "cleanup.policy": Config(
        "delete", ConfigType.LIST, _policies, "delete, compact or both are wanted",
        "Whether old segments are deleted, compacted to the last record of each key, or both.", "log.cleanup.policy",
    ),
    "compression.gzip.level": Config(
        "-1", ConfigType.INT, _gzip_level, "1 to 9, or -1, is wanted",
        "The level of gzip; without effect, the library's own is used.", "compression.gzip.level",
    ),
    "compression.lz4.level": Config(
        "9", ConfigType.INT, *_whole(1, 17),
        "The level of lz4; without effect, the library's own is used.", "compression.lz4.level",
    ),
    "compression.type": Config(
        "producer", ConfigType.STRING, *_one_of("producer", *COMPRESSIONS),
        "The compression of the log, or what the producer chose.", "compression.type",
    ),
    "compression.zstd.level": Config(
        "3", ConfigType.INT, *_whole(-131072, 22),
        "The level of zstd; without effect, the library's own is used.", "compression.zstd.level",
    ),
    "delete.retention.ms": Config(
        "86400000", ConfigType.LONG, *_whole(0),
        "How long tombstones stay in a compacted topic.", "log.cleaner.delete.retention.ms",
    ),
    "errors.deadletterqueue.group.enable": Config(
        "false", ConfigType.BOOLEAN, *_only("false", "there are no share groups here: only {} is taken"),
        "Whether share groups may write what they could not deliver into the topic.",
    ),
    "file.delete.delay.ms": Config(
        "60000", ConfigType.LONG, *_whole(0),
        "How long a deleted segment's file stays; without effect, it goes at once.", "log.segment.delete.delay.ms",
    ),
    "flush.messages": Config(
        str(_LONG), ConfigType.LONG, *_only(str(_LONG), _NEVER_FLUSHED),
        "After how many records the log is flushed to the disk.", "log.flush.interval.messages",
    ),
    "flush.ms": Config(
        str(_LONG), ConfigType.LONG, *_only(str(_LONG), _NEVER_FLUSHED),
        "After how much time the log is flushed to the disk.",
    ),
    "follower.replication.throttled.replicas": Config(
        "", ConfigType.LIST, *_REPLICAS, "Replicas whose replication is slowed down; without effect on one broker.",
    ),
    "index.interval.bytes": Config(
        "4096", ConfigType.INT, *_whole(0, _INT),
        "How dense the index is; without effect, it is as dense as it has to be.", "log.index.interval.bytes",
    ),
    "leader.replication.throttled.replicas": Config(
        "", ConfigType.LIST, *_REPLICAS, "Replicas whose replication is slowed down; without effect on one broker.",
    ),
    "local.retention.bytes": Config(
        "-2", ConfigType.LONG, *_only("-2", _NO_TIERS),
        "How much stays on the local tier: all of it.", "log.local.retention.bytes",
    ),
    "local.retention.ms": Config(
        "-2", ConfigType.LONG, *_only("-2", _NO_TIERS),
        "How long a segment stays on the local tier: always.", "log.local.retention.ms",
    ),
    "max.compaction.lag.ms": Config(
        str(_LONG), ConfigType.LONG, *_whole(1),
        "How long a record may stay uncompacted.", "log.cleaner.max.compaction.lag.ms",
    ),
    "max.decompressed.message.bytes": Config(
        "2147483639", ConfigType.INT,
        *_only("2147483639", "most batches are never unpacked here, so no limit could hold: only {} is taken"),
        "The largest record that is taken once it is unpacked.", "max.decompressed.message.bytes",
    ),
    "max.message.bytes": Config(
        "1048588", ConfigType.INT, *_whole(0, _INT), "The largest batch that is taken.", "message.max.bytes",
    ),
    "message.timestamp.after.max.ms": Config(
        "3600000", ConfigType.LONG, *_whole(0),
        "How far in the future a record's timestamp may lie.", "log.message.timestamp.after.max.ms",
    ),
    "message.timestamp.before.max.ms": Config(
        str(_LONG), ConfigType.LONG, *_whole(0),
        "How far in the past a record's timestamp may lie.", "log.message.timestamp.before.max.ms",
    ),
    "message.timestamp.type": Config(
        "CreateTime", ConfigType.STRING, *_one_of("CreateTime", "LogAppendTime"),
        "Whether a record's timestamp is its producer's or the broker's.", "log.message.timestamp.type",
    ),
    "min.cleanable.dirty.ratio": Config(
        "0.5", ConfigType.DOUBLE, _ratio, "a number from 0 to 1 is wanted",
        "How much of a log must be uncompacted before it is compacted.", "log.cleaner.min.cleanable.ratio",
    ),
    "min.compaction.lag.ms": Config(
        "0", ConfigType.LONG, *_whole(0),
        "How long a record stays uncompacted at least.", "log.cleaner.min.compaction.lag.ms",
    ),
    "min.insync.replicas": Config(
        "1", ConfigType.INT, *_whole(1, _INT),
        "How many replicas must be there for a write with acks=all, if the topic has so many: it has one.",
        "min.insync.replicas",
    ),
    "preallocate": Config(
        "false", ConfigType.BOOLEAN, *_BOOLEAN,
        "Whether a segment's file is made at its full size; without effect.", "log.preallocate",
    ),
    "remote.copy.lag.bytes": Config(
        "-1", ConfigType.LONG, *_only("-1", _NO_TIERS),
        "How many newer bytes a segment waits for before it is copied to the remote tier.", "log.remote.copy.lag.bytes",
    ),
    "remote.copy.lag.ms": Config(
        "0", ConfigType.LONG, *_only("0", _NO_TIERS),
        "How long a segment waits before it is copied to the remote tier.", "log.remote.copy.lag.ms",
    ),
    "remote.log.copy.disable": Config(
        "false", ConfigType.BOOLEAN, *_only("false", _NO_TIERS), "Whether no segment is copied to the remote tier.",
    ),
    "remote.log.delete.on.disable": Config(
        "false", ConfigType.BOOLEAN, *_only("false", _NO_TIERS),
        "Whether the remote tier is emptied when it is switched off.",
    ),
    "remote.storage.enable": Config(
        "false", ConfigType.BOOLEAN, *_only("false", _NO_TIERS), "Whether there is a remote tier.",
    ),
    "retention.bytes": Config(
        "-1", ConfigType.LONG, *_whole(-1),
        "How large a partition may become; -1: without limit.", "log.retention.bytes",
    ),
    "retention.ms": Config(
        "604800000", ConfigType.LONG, *_whole(-1), "How long records are kept at least; -1: for ever.",
    ),
    "segment.bytes": Config(
        "1073741824", ConfigType.INT, *_whole(1024, _INT), "The largest size of a segment.", "log.segment.bytes",
    ),
    "segment.index.bytes": Config(
        "10485760", ConfigType.INT, *_whole(4, _INT),
        "The largest size of an index; without effect, it grows as it has to.", "log.index.size.max.bytes",
    ),
    "segment.jitter.ms": Config(
        "0", ConfigType.LONG, *_whole(0),
        "By how much rolling is spread in time; without effect, one broker has nothing to spread.",
    ),
    "segment.ms": Config(
        "604800000", ConfigType.LONG, *_whole(1), "After how much time a new segment is begun.",
    ),
    "unclean.leader.election.enable": Config(
        "false", ConfigType.BOOLEAN, *_BOOLEAN,
        "Whether a replica that is behind may lead; without effect on one broker.", "unclean.leader.election.enable",
    ),
}  # fmt: skip


def check_configs(configs: Mapping[str, str]) -> dict[str, str]:
    """These topic configurations, if all are taken together. Raises Refused naming the one that is not."""
    checked = {name: check_config(name, value) for name, value in configs.items()}
    least = checked.get("min.compaction.lag.ms", TOPIC_CONFIGS["min.compaction.lag.ms"].default)
    most = checked.get("max.compaction.lag.ms", TOPIC_CONFIGS["max.compaction.lag.ms"].default)
    if int(least) > int(most):
        reason = f"min.compaction.lag.ms ({least}) is more than max.compaction.lag.ms ({most})"
        raise Refused(ErrorCode.invalid_config, reason)
    return checked


def check_config(name: str, value: str) -> str:
    """`value` as it is kept, if the topic configuration `name` takes it. Raises Refused naming both otherwise."""
    config = TOPIC_CONFIGS.get(name)
    if config is None:
        raise Refused(ErrorCode.invalid_config, f"Unknown topic config name: {name}")
    if not config.check(value):
        raise Refused(ErrorCode.invalid_config, f"Invalid value {value} for configuration {name}: {config.expects}")
    return _normalise(name, config.type, value.strip())


def _normalise(name: str, type: int, value: str) -> str:
    """The one way in which Apache Kafka writes a value: `007` is `7`, `TRUE` is `true`, `delete,delete` is `delete`."""
    match type:
        case ConfigType.BOOLEAN:
            return value.lower()
        case ConfigType.INT | ConfigType.LONG:
            return str(int(value))
        case ConfigType.DOUBLE:
            return str(float(value))
        case ConfigType.LIST:
            items = [item.strip() for item in value.split(",")]
            return ",".join(dict.fromkeys(items) if name in _SETS else items)
        case _:
            return value
