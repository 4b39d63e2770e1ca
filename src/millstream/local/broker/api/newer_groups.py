"""The group protocols of KIP-848 and KIP-932, which are not spoken here: who tries is told so at once.

A broker that does not list these keys leaves librdkafka waiting for ever without a word, so they are listed, in the
versions that clients insist on. Apache Kafka gives the same answers where these protocols are switched off.
"""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.wire.control import Response


def consumer_group_heartbeat(context: Context, request: Any) -> Response:
    return _unsupported("The local broker speaks the classic group protocol only: set group.protocol=classic.")


def consumer_group_describe(context: Context, request: Any) -> Response:
    return {"groups": [_describe(group_id) for group_id in request.group_ids]}


def share_group_heartbeat(context: Context, request: Any) -> Response:
    return _unsupported("The local broker has no share groups: read with a consumer and group.protocol=classic.")


def share_group_describe(context: Context, request: Any) -> Response:
    return {"groups": [_describe(group_id) for group_id in request.group_ids]}


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
