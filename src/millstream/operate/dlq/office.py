"""The context of every command for dead letters: a cluster, and what is known of its letters."""

from collections.abc import Mapping
from dataclasses import dataclass

from millstream.kafka.port import Admin, Kafka
from millstream.operate.dlq.audit import Audit
from millstream.operate.dlq.system import Origins


@dataclass(frozen=True, slots=True)
class Office:
    """Passed to whatever looks at letters or deals with them. `partitions`: how many each topic has that is there."""

    kafka: Kafka
    admin: Admin
    origins: Origins
    audit: Audit
    partitions: Mapping[str, int]
