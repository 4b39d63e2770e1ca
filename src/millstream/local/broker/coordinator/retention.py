"""What the coordinator forgets because nobody used it for long: offsets, groups, transactional ids."""

import logging

from millstream.local.broker.coordinator.group import Group, GroupState
from millstream.local.broker.coordinator.groups import Groups
from millstream.local.broker.coordinator.offsets import Offsets, TopicPartition
from millstream.local.broker.coordinator.transactions import Transactions
from millstream.local.broker.errors import Refused
from millstream.local.broker.timers import Timers

log = logging.getLogger(__name__)

OFFSETS_RETENTION_MS = 7 * 24 * 60 * 60 * 1000
TRANSACTIONAL_ID_EXPIRY_MS = 7 * 24 * 60 * 60 * 1000
CHECK_MS = 10 * 60 * 1000


class Retention:
    """Looks every ten minutes for what Apache Kafka would have forgotten with its default settings.

    A group's offsets are kept while it has members that may need them, and for seven days after the last one left;
    offsets of a topic that its members do not read, and of a group that never had members, for seven days after their
    commit.
    """

    def __init__(self, groups: Groups, offsets: Offsets, transactions: Transactions, timers: Timers) -> None:
        self._groups = groups
        self._offsets = offsets
        self._transactions = transactions
        self._timers = timers
        timers.after(CHECK_MS, self._check)

    def forget(self) -> None:
        """Forget now whatever is old enough. Raises Refused when the disk refuses."""
        now = self._timers.clock()
        for group in list(self._groups.by_id.values()):
            self._offsets.delete(group.id, self._expired(group, now - OFFSETS_RETENTION_MS))
            if group.state is GroupState.EMPTY and not group.invited and not self._offsets.has_any(group.id):
                self._groups.delete(group.id)
        self._transactions.expire(now - TRANSACTIONAL_ID_EXPIRY_MS)

    def _check(self) -> None:
        self._timers.after(CHECK_MS, self._check)
        try:
            self.forget()
        except Refused as refused:
            log.warning(
                "cannot forget old offsets and transactional ids: %s",
                refused,
                extra={"code": "old_state_not_forgotten"},
            )

    def _expired(self, group: Group, before: int) -> list[TopicPartition]:
        simple = group.protocol_type is None
        settled = group.state is GroupState.STABLE and group.protocol_type == "consumer"
        if group.state is not GroupState.EMPTY and not settled:
            return []
        read = group.topics_read()
        if read is None:
            return []
        return [
            place
            for place, committed in self._offsets.of(group.id).items()
            if (committed.at if simple or settled else group.since) <= before
            and place[0] not in read
            and not self._offsets.is_pending(group.id, place)
        ]
