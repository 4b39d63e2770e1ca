"""The group protocols of KIP-848 and KIP-932, which are not spoken here: who tries is told so at once.

A broker that does not list these keys leaves librdkafka waiting for ever without a word, so they are listed, in the
versions that clients insist on. Apache Kafka gives the same answers where these protocols are switched off. librdkafka
shows its user the code and not the message: so the log has it, too.
"""

import logging
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.wire.control import Response

log = logging.getLogger(__name__)

MAX_NAMED = 1_000
"""How many groups are named in the log; a program that makes up names must not fill it."""


def consumer_group_heartbeat(context: Context, request: Any) -> Response:
    _warn(
        context,
        request.group_id,
        "by the consumer group protocol (KIP-848), which the local broker does not speak: set group.protocol=classic; "
        "see `millstream help broker-differences`",
    )
    return _unsupported(
        "The local broker does not speak the consumer group protocol (KIP-848): set group.protocol=classic."
    )


def consumer_group_describe(context: Context, request: Any) -> Response:
    return {"groups": [_describe(group_id) for group_id in request.group_ids]}


def share_group_heartbeat(context: Context, request: Any) -> Response:
    _warn(
        context,
        request.group_id,
        "as a share group, which the local broker does not have: read with a consumer and group.protocol=classic; "
        "see `millstream help broker-differences`",
    )
    return _unsupported("The local broker has no share groups: read with a consumer and group.protocol=classic.")


def share_group_describe(context: Context, request: Any) -> Response:
    return {"groups": [_describe(group_id) for group_id in request.group_ids]}


def _warn(context: Context, group_id: str, what: str) -> None:
    """Say once for each group what its members ask for in vain."""
    named = context.broker.refused_groups
    if group_id not in named and len(named) < MAX_NAMED:
        named.add(group_id)
        client = context.client_id or "without a name"
        log.warning(
            "the client %r at %s joins group %r %s",
            client,
            context.client_host,
            group_id,
            what,
            extra={"code": "group_protocol_refused"},
        )


def _unsupported(message: str) -> Response:
    return {"error_code": ErrorCode.unsupported_version, "error_message": message}


def _describe(group_id: str) -> dict[str, Any]:
    """No group is of the newer kinds. Administrators take this as a reason to ask in the classic way."""
    if not group_id:
        return {"group_id": "", "error_code": ErrorCode.invalid_group_id, "error_message": None}
    return {
        "group_id": group_id,
        "error_code": ErrorCode.group_id_not_found,
        "error_message": f"Group {group_id} not found.",
    }
