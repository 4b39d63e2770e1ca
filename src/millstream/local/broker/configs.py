"""Topic configurations: names, defaults and what values they take."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import Refused


class ConfigType:
    """The protocol's numbers for the type of a configuration."""

    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class Config(NamedTuple):
    default: str
    type: int
    check: Callable[[str], bool]
    expects: str


def _whole(low: int, high: int) -> tuple[Callable[[str], bool], str]:
    def check(text: str) -> bool:
        try:
            return low <= int(text) <= high
        except ValueError:
            return False

    return check, f"a whole number from {low} to {high}"


def _one_of(*values: str) -> tuple[Callable[[str], bool], str]:
    return lambda text: text in values, "one of " + ", ".join(values)


def _policies(text: str) -> bool:
    return all(policy.strip() in ("delete", "compact") for policy in text.split(","))


def _ratio(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


_LONG = 2**63 - 1
_INT = 2**31 - 1

TOPIC_CONFIGS: Mapping[str, Config] = {
    "cleanup.policy": Config("delete", ConfigType.LIST, _policies, "delete, compact or both"),
    "compression.type": Config("producer", ConfigType.STRING, *_one_of("producer")),
    "delete.retention.ms": Config("86400000", ConfigType.LONG, *_whole(0, _LONG)),
    "max.compaction.lag.ms": Config(str(_LONG), ConfigType.LONG, *_whole(1, _LONG)),
    "max.message.bytes": Config("1048588", ConfigType.INT, *_whole(0, _INT)),
    "message.timestamp.type": Config("CreateTime", ConfigType.STRING, *_one_of("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": Config("0.5", ConfigType.DOUBLE, _ratio, "a number from 0 to 1"),
    "min.compaction.lag.ms": Config("0", ConfigType.LONG, *_whole(0, _LONG)),
    "min.insync.replicas": Config("1", ConfigType.INT, *_whole(1, 1)),
    "retention.bytes": Config("-1", ConfigType.LONG, *_whole(-1, _LONG)),
    "retention.ms": Config("604800000", ConfigType.LONG, *_whole(-1, _LONG)),
    "segment.bytes": Config("1073741824", ConfigType.INT, *_whole(1024, _INT)),
    "segment.ms": Config("604800000", ConfigType.LONG, *_whole(1, _LONG)),
}


def check_config(name: str, value: str | None) -> str:
    """`value`, if the topic configuration `name` takes it. Raises Refused naming both otherwise."""
    config = TOPIC_CONFIGS.get(name)
    if config is None:
        raise Refused(ErrorCode.invalid_config, f"the local broker knows no topic configuration {name}")
    if value is None or not config.check(value):
        raise Refused(ErrorCode.invalid_config, f"{name} takes {config.expects}, not {value!r}")
    return value
