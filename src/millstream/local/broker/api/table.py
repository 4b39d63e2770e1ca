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
    replicas,
    security,
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
    2: Api(1, 11, positions.list_offsets),
    3: Api(0, 13, cluster.metadata),
    8: Api(2, 10, commits.offset_commit),
    9: Api(1, 10, commits.offset_fetch),
    10: Api(0, 6, cluster.find_coordinator),
    11: Api(0, 9, handle_later=groups.join_group),
    12: Api(0, 4, groups.heartbeat),
    13: Api(0, 5, groups.leave_group),
    14: Api(0, 5, handle_later=groups.sync_group),
    15: Api(0, 6, groups.describe_groups),
    16: Api(0, 5, groups.list_groups),
    17: Api(0, 1, security.sasl_handshake),
    API_VERSIONS: Api(0, 4),
    19: Api(2, 7, topics.create_topics),
    20: Api(1, 6, topics.delete_topics),
    21: Api(0, 2, positions.delete_records),
    22: Api(0, 5, transactions.init_producer_id),
    23: Api(2, 4, positions.offset_for_leader_epoch),
    24: Api(0, 3, transactions.add_partitions_to_txn),
    25: Api(0, 4, transactions.add_offsets_to_txn),
    26: Api(0, 4, handle_later=transactions.end_txn),
    27: Api(1, 1, describe_transactions.write_txn_markers),
    28: Api(0, 4, transactions.txn_offset_commit),
    29: Api(1, 3, security.describe_acls),
    30: Api(1, 3, security.create_acls),
    31: Api(1, 3, security.delete_acls),
    32: Api(1, 4, configs.describe_configs),
    33: Api(0, 2, configs.alter_configs),
    34: Api(1, 2, replicas.alter_replica_log_dirs),
    35: Api(1, 5, replicas.describe_log_dirs),
    36: Api(0, 2, security.sasl_authenticate),
    37: Api(0, 3, topics.create_partitions),
    38: Api(1, 3, security.delegation_token),
    39: Api(1, 2, security.delegation_token),
    40: Api(1, 2, security.delegation_token),
    41: Api(1, 3, security.delegation_token),
    42: Api(0, 2, groups.delete_groups),
    43: Api(0, 2, replicas.elect_leaders),
    44: Api(0, 1, configs.incremental_alter_configs),
    45: Api(0, 1, replicas.alter_partition_reassignments),
    46: Api(0, 0, replicas.list_partition_reassignments),
    47: Api(0, 0, commits.offset_delete),
    48: Api(0, 1, security.describe_client_quotas),
    49: Api(0, 1, security.alter_client_quotas),
    50: Api(0, 0, security.describe_user_scram_credentials),
    51: Api(0, 0, security.alter_user_scram_credentials),
    55: Api(0, 2, cluster.describe_quorum),
    57: Api(0, 2, cluster.update_features),
    60: Api(0, 2, cluster.describe_cluster),
    61: Api(0, 0, describe_transactions.describe_producers),
    65: Api(0, 0, describe_transactions.describe_transactions),
    66: Api(0, 2, describe_transactions.list_transactions),
    68: Api(0, 1, newer_groups.consumer_group_heartbeat),
    69: Api(0, 1, newer_groups.consumer_group_describe),
    74: Api(0, 1, configs.list_config_resources),
    75: Api(0, 0, cluster.describe_topic_partitions),
    76: Api(1, 1, newer_groups.share_group_heartbeat),
    77: Api(1, 1, newer_groups.share_group_describe),
}
