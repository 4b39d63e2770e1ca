"""The holder of a static membership of a group: whether a member that was fenced has another holder, or none.

librdkafka gives up its member id when the session runs out, as after an outage that outlasts it, and joins again; a
commit with the old id that is still under way is answered FENCED_INSTANCE_ID then, though no other process is there. To
librdkafka that is fatal, and reads as if another process held the slot.
"""

import time
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from millstream.errors import SlotTaken
from millstream.kafka.faults import made
from millstream.telemetry.logs import get_logger
from millstream.timeouts import MEMBERS_TIMEOUT, MEMBERSHIP_GRACE

log = get_logger(__name__)

LOOK_SECONDS = 1.0
_CLIENT = ("bootstrap.", "client.id", "security.", "sasl.", "ssl.", "logger", "socket.", "reconnect.")


class Holder:
    """The member that a group knows by an instance's name.

    - `member`: its member id.
    - `client`: its client id, which ends with its host's name.
    - `where`: its address, as brokers see it.
    """

    def __init__(self, member: str, client: str, where: str) -> None:
        self.member = member
        self.client = client
        self.where = where.lstrip("/")


def holder_of(properties: dict[str, Any]) -> Holder | None:
    """The holder of `group.instance.id` in `group.id`, if there is one. Raises `KafkaException` without an answer."""
    group, instance = properties["group.id"], properties["group.instance.id"]
    client = {name: value for name, value in properties.items() if name.startswith(_CLIENT)}
    admin: Any = made(AdminClient, client)
    found = admin.describe_consumer_groups([group], request_timeout=MEMBERS_TIMEOUT)[group].result(2 * MEMBERS_TIMEOUT)
    for member in found.members:
        if member.group_instance_id == instance:
            return Holder(member.member_id, member.client_id, member.host)
    return None


def has_other_holder(properties: dict[str, Any], mine: set[str]) -> str | None:
    """The address from which another process holds this membership; None where only this one does.

    - `mine`: the member ids that this process has had.
    """
    try:
        holder = holder_of(properties)
    except (KafkaException, TimeoutError) as error:
        log.warning("holder unknown", code="holder_unknown", group=properties["group.id"], error=str(error))
        return "an address that is not known"
    return None if holder is None or holder.member in mine else holder.where


def wait_until_free(properties: dict[str, Any]) -> None:
    """Waits while another machine holds this membership: one that died is forgotten when its session runs out.

    A predecessor on this machine is no obstacle: the lock file of the slot says that it is gone, and joining takes over
    from it at once. Raises `SlotTaken` naming a holder that outlives its session.
    """
    session = float(properties["session.timeout.ms"]) / 1000
    deadline = time.monotonic() + session + MEMBERSHIP_GRACE
    warned = False
    while True:
        try:
            holder = holder_of(properties)
        except (KafkaException, TimeoutError) as error:
            # Joining finds out: brokers let no two processes hold it.
            log.warning("holder unknown", code="holder_unknown", group=properties["group.id"], error=str(error))
            return
        if holder is None or holder.client == properties["client.id"]:
            return
        instance = properties["group.instance.id"]
        if time.monotonic() > deadline:
            raise SlotTaken(
                f"{instance} is held by {holder.client} at {holder.where}. Stop it, or give this process a slot of its "
                "own with MILLSTREAM_SLOT."
            )
        if not warned:
            warned = True
            log.info(
                "waiting for slot",
                code="waiting_for_slot",
                instance=instance,
                holder=holder.client,
                address=holder.where,
                seconds=session,
            )
        time.sleep(LOOK_SECONDS)  # before the group is asked again
