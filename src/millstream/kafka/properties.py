"""librdkafka properties from settings. What differs from librdkafka's default says why."""

import logging
from typing import Any

from millstream.kafka.log_throttle import LogThrottleFilter
from millstream.kafka.port import Isolation
from millstream.settings import MAX_BYTES, Settings

logger = logging.getLogger("millstream.kafka.librdkafka")
logger.addFilter(LogThrottleFilter())

OF_MEMBERS = frozenset(
    {
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "partition.assignment.strategy",
        "session.timeout.ms",
    }
)
"""Properties of a group's members. A reader outside any group keeps librdkafka's own, which fit each other: a
`max.poll.interval.ms` below the session time-out that a reader does not have made it refuse its configuration."""


def client(settings: Settings, client_id: str) -> dict[str, Any]:
    """The properties of every client: where the brokers are and how to speak to them."""
    properties: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": client_id,
        "security.protocol": settings.security_protocol,
        "logger": logger,
        # No typing mistake creates a topic; librdkafka's producers would by default.
        "allow.auto.create.topics": False,
        # A broker that was restarted is found again within half a second, not ten.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        # Requests are small: an answer that takes longer than this is not coming.
        "socket.timeout.ms": 15_000,
        "socket.connection.setup.timeout.ms": 5_000,
        "socket.nagle.disable": True,
        # A fresh topic is known everywhere long before this; past it, it does not exist.
        "topic.metadata.propagation.max.ms": 5_000,
    }
    secret = settings.sasl_password
    optional = {
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": secret.get_secret_value() if secret else None,
        "ssl.ca.location": settings.ssl_ca_location,
        "ssl.certificate.location": settings.ssl_certificate_location,
        "ssl.key.location": settings.ssl_key_location,
    }
    properties.update({name: str(value) for name, value in optional.items() if value is not None})
    return properties


def fetching(isolation: Isolation) -> dict[str, Any]:
    """The properties of everything that reads: fast, in little memory."""
    return {
        "isolation.level": isolation,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # A reader that has caught up can say so; control records would make it look one behind.
        "enable.partition.eof": True,
        # The default, a second, is how long a full queue pauses fetching: it costs nine tenths of the throughput.
        "fetch.queue.backoff.ms": 10,
        # A seek, a resume and a new assignment wait for the fetch that is under way: half a second by default.
        "fetch.wait.max.ms": 200,
        # The defaults prefetch 64 MB and 100,000 records of each partition; a service has 90 MB in all.
        "queued.min.messages": 2_000,
        "queued.max.messages.kbytes": 4_096,
        # Counted compressed: in memory it is several times as much.
        "fetch.max.bytes": 2 * 1024 * 1024,
        "max.partition.fetch.bytes": 512 * 1024,
    }


def consumer(
    settings: Settings, client_id: str, group: str, instance: str | None, isolation: Isolation, co_partitioned: bool
) -> dict[str, Any]:
    """A member of a consumer group."""
    properties = client(settings, client_id) | fetching(isolation)
    longest_poll = settings.poll_interval_ms
    session = min(settings.session_timeout_ms, longest_poll)
    properties |= {
        "group.id": group,
        # Long, because it costs nothing: an instance that restarts under its name takes its partitions back at once. A
        # short one makes librdkafka rejoin after an outage, when a late heartbeat of its own old self can fence it.
        "session.timeout.ms": session,
        # Members learn of a rebalance by a heartbeat's answer: its interval is how long a rebalance takes.
        "heartbeat.interval.ms": min(settings.heartbeat_ms, session // 3),
        "max.poll.interval.ms": longest_poll,
        # Sticky moves the fewest partitions, in two rebalances: one takes them away, one hands them out. A named
        # instance that is killed between the two comes back without a rebalance, and no member gets what it gave up.
        # Range does all in one, and it alone puts partition n of every topic on one member.
        "partition.assignment.strategy": "range" if co_partitioned or instance is not None else "cooperative-sticky",
    }
    if instance is not None:
        properties["group.instance.id"] = instance
    return properties | settings.kafka


def reader(settings: Settings, client_id: str, isolation: Isolation) -> dict[str, Any]:
    """Something that reads given partitions, outside any group."""
    own = {
        # librdkafka wants a group's name even of readers that never join or commit.
        "group.id": client_id,
        # A partition's end shows by an empty answer: do not let it wait for records to come.
        "fetch.wait.max.ms": 5,
    }
    return client(settings, client_id) | fetching(isolation) | own | outside_groups(settings)


def outside_groups(settings: Settings) -> dict[str, str]:
    """The properties of `MILLSTREAM_KAFKA`, for a client that is no member of a group."""
    return {name: value for name, value in settings.kafka.items() if name not in OF_MEMBERS}


def producer(settings: Settings, client_id: str) -> dict[str, Any]:
    """Anything that writes."""
    own = {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 5,
        # As Java's clients hash, so that Kafka Streams, Debezium and we agree on where a key lives.
        "partitioner": "murmur2_random",
        "message.timeout.ms": 30_000,
        # The default, a million, leaves a dead letter no room beside a record that has as much.
        "message.max.bytes": MAX_BYTES,
        # The defaults buffer 100,000 records and a gigabyte.
        "queue.buffering.max.messages": 20_000,
        "queue.buffering.max.kbytes": 8_192,
    }
    return client(settings, client_id) | own | outside_groups(settings)


def transactional_producer(settings: Settings, client_id: str, transactional_id: str) -> dict[str, Any]:
    """A producer with transactions."""
    own = {
        "transactional.id": transactional_id,
        # An open transaction holds back every reader of the partitions it touched.
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        # Below the transaction's, so that a record that cannot be delivered aborts it in an orderly way.
        "message.timeout.ms": settings.transaction_timeout_ms * 2 // 3,
        "delivery.report.only.error": True,
        # After a rebootstrap (all brokers were gone for a moment) librdkafka keeps a coordinator that it has dropped,
        # and sending offsets to it never ends. Without, it connects again to the brokers it knows.
        "metadata.recovery.strategy": "none",
        "socket.timeout.ms": min(15_000, settings.transaction_timeout_ms),
    }
    return producer(settings, client_id) | own | outside_groups(settings)
