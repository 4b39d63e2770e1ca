"""Every API key that is answered, with the versions that are."""

from collections.abc import Callable
from typing import Any, NamedTuple

from millstream.local.broker.api import (
    cluster,
    commits,
    configs,
    describe_transactions,
    groups,
    newer_groups,
    positions,
    topics,
    transactions,
)
from millstream.local.broker.api.context import Context
from millstream.local.broker.wire.control import Response

PRODUCE = 0
FETCH = 1
API_VERSIONS = 18


class Api(NamedTuple):
    """`handle` answers at once; `handle_later` takes a callback for its answer."""

    lowest: int
    highest: int
    handle: Callable[[Context, Any], Response] | None = None
    handle_later: Callable[[Context, Any, Callable[[Response], None]], None] | None = None


APIS: dict[int, Api] = {
    # librdkafka 2.0 sends uncompressed to a broker that does not speak Produce 0 (KAFKA-18659): said, and refused if
    # used.
    PRODUCE: Api(0, 11),
    FETCH: Api(4, 17),
    2: Api(1, 8, positions.list_offsets),
    3: Api(0, 13, cluster.metadata),
    8: Api(2, 9, commits.offset_commit),
    9: Api(1, 9, commits.offset_fetch),
    10: Api(0, 5, cluster.find_coordinator),
    11: Api(0, 9, handle_later=groups.join_group),
    12: Api(0, 4, groups.heartbeat),
    13: Api(0, 5, groups.leave_group),
    14: Api(0, 5, handle_later=groups.sync_group),
    15: Api(0, 6, groups.describe_groups),
    16: Api(0, 5, groups.list_groups),
    API_VERSIONS: Api(0, 4),
    19: Api(2, 7, topics.create_topics),
    20: Api(1, 6, topics.delete_topics),
    21: Api(0, 2, positions.delete_records),
    22: Api(0, 5, transactions.init_producer_id),
    23: Api(2, 4, positions.offset_for_leader_epoch),
    24: Api(0, 3, transactions.add_partitions_to_txn),
    25: Api(0, 4, transactions.add_offsets_to_txn),
    26: Api(0, 4, transactions.end_txn),
    27: Api(1, 1, describe_transactions.write_txn_markers),
    28: Api(0, 4, transactions.txn_offset_commit),
    32: Api(1, 4, configs.describe_configs),
    33: Api(0, 2, configs.alter_configs),
    37: Api(0, 3, topics.create_partitions),
    42: Api(0, 2, groups.delete_groups),
    44: Api(0, 1, configs.incremental_alter_configs),
    47: Api(0, 0, commits.offset_delete),
    60: Api(0, 1, cluster.describe_cluster),
    61: Api(0, 0, describe_transactions.describe_producers),
    65: Api(0, 0, describe_transactions.describe_transactions),
    66: Api(0, 2, describe_transactions.list_transactions),
    68: Api(0, 1, newer_groups.consumer_group_heartbeat),
    69: Api(0, 1, newer_groups.consumer_group_describe),
    76: Api(1, 1, newer_groups.share_group_heartbeat),
    77: Api(1, 1, newer_groups.share_group_describe),
}
