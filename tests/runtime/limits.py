"""Topics that take only small records, and records that do not compress."""

import random

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from millstream.testing.child import wait_until


def set_limit(bootstrap: str, topic: str, limit: int) -> None:
    """Set `max.message.bytes` of a topic, and wait until brokers say so."""
    entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})  # kept: dropped, it takes its answer with it
    admin.incremental_alter_configs([resource])[resource].result(20)
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def told() -> bool:
        return admin.describe_configs([asked])[asked].result(20)["max.message.bytes"].value == str(limit)

    wait_until(told, seconds=60, what=f"the limit of {topic}")


def noise(size: int) -> bytes:
    """Bytes that no codec makes smaller, the same ones each time."""
    return random.Random(7).randbytes(size)
