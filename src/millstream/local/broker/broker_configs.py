"""The broker's own configuration, as a client may read it: what it was started with, and what it does in any case."""

from typing import NamedTuple

from millstream.local.broker.configs import TOPIC_CONFIGS, ConfigType
from millstream.local.broker.core import NODE_ID, Broker
from millstream.local.broker.fetch_sessions import EVICTABLE_AFTER_MS, MAX_SESSIONS
from millstream.local.broker.housekeeping import PRODUCER_EXPIRY_MS


class BrokerConfig(NamedTuple):
    """`chosen` when whoever started the broker decided it."""

    name: str
    value: str | None
    type: int
    says: str
    chosen: bool = False


def broker_configs(broker: Broker) -> list[BrokerConfig]:
    options = broker.options
    here = f"PLAINTEXT://{broker.host}:{broker.port}"
    text, whole, long, boolean = ConfigType.STRING, ConfigType.INT, ConfigType.LONG, ConfigType.BOOLEAN
    created = options.auto_create_partitions
    on_use = str(created > 0).lower()
    delay = options.initial_rebalance_delay
    own = [
        BrokerConfig("advertised.listeners", here, text, "Where clients find the broker.", True),
        BrokerConfig("auto.create.topics.enable", on_use, boolean, "Whether use creates.", not created),
        BrokerConfig("broker.id", str(NODE_ID), whole, "The only broker's number.", True),
        BrokerConfig("default.replication.factor", "1", whole, "There is one broker."),
        BrokerConfig("delete.topic.enable", "true", boolean, "Whether topics can be deleted."),
        BrokerConfig("group.initial.rebalance.delay.ms", str(delay), whole, "How long a new group waits.", True),
        BrokerConfig("listeners", here, text, "Where the broker listens.", True),
        BrokerConfig("log.dirs", str(broker.data), text, "Where everything is kept.", True),
        BrokerConfig("log.retention.hours", "168", whole, "How long records are kept where a topic does not say."),
        BrokerConfig("log.retention.ms", None, long, "The same in milliseconds, if it is set."),
        BrokerConfig(
            "max.incremental.fetch.session.cache.slots", str(MAX_SESSIONS), whole, "How many fetch sessions are kept."
        ),
        BrokerConfig(
            "min.incremental.fetch.session.eviction.ms", str(EVICTABLE_AFTER_MS), long, "When one may be dropped."
        ),
        BrokerConfig("node.id", str(NODE_ID), whole, "The only broker's number.", True),
        BrokerConfig(
            "num.partitions", str(created or 1), whole, "Partitions of a topic that does not say.", created > 1
        ),
        BrokerConfig("producer.id.expiration.ms", str(PRODUCER_EXPIRY_MS), whole, "When a producer is forgotten."),
        BrokerConfig("socket.request.max.bytes", str(100 << 20), whole, "The largest request that is taken."),
        BrokerConfig("transaction.max.timeout.ms", "900000", whole, "The longest timeout of a transaction."),
    ]
    for_topics = [
        BrokerConfig(config.synonym, config.default, config.type, config.says)
        for config in TOPIC_CONFIGS.values()
        if config.synonym is not None
    ]
    return sorted(own + for_topics)
