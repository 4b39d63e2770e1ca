"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and describing, listing and deleting groups."""

from collections.abc import Callable
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.coordinator.group import GroupState, Joined, JoinRequest, Protocol, Synced, SyncRequest
from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.wire.control import Response, millis

Reply = Callable[[Response], None]

ALL_OPERATIONS = sum(1 << operation for operation in (3, 6, 8, 10, 11))
"""READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: what can be done to a group where nothing is forbidden."""


def join_group(context: Context, request: Any, reply: Reply) -> None:
    session = millis(request.session_timeout)
    rebalance = millis(request.rebalance_timeout) if context.version >= 1 else session
    joining = JoinRequest(
        request.group_id,
        request.member_id,
        getattr(request, "group_instance_id", None),
        context.client_id,
        context.client_host,
        session,
        rebalance if rebalance > 0 else session,
        request.protocol_type,
        tuple(Protocol(protocol.name, bytes(protocol.metadata)) for protocol in request.protocols),
        member_id_required=context.version >= 4,
        can_skip_assignment=context.version >= 9,
    )

    def answer(joined: Joined) -> None:
        protocol = joined.protocol
        reply(
            {
                "error_code": joined.error,
                "generation_id": joined.generation,
                "protocol_type": joined.protocol_type,
                "protocol_name": protocol if protocol is not None or context.version >= 7 else "",
                "leader": joined.leader,
                "skip_assignment": joined.skip_assignment,
                "member_id": joined.member_id,
                "members": [
                    {"member_id": member_id, "group_instance_id": instance_id, "metadata": metadata}
                    for member_id, instance_id, metadata in joined.members
                ],
            }
        )

    context.broker.groups.join(joining, answer)


def sync_group(context: Context, request: Any, reply: Reply) -> None:
    def answer(synced: Synced) -> None:
        reply(
            {
                "error_code": synced.error,
                "protocol_type": synced.protocol_type,
                "protocol_name": synced.protocol,
                "assignment": synced.assignment,
            }
        )

    protocol_type = getattr(request, "protocol_type", None)
    protocol = getattr(request, "protocol_name", None)
    if context.version >= 5 and (protocol_type is None or protocol is None):
        answer(Synced(ErrorCode.inconsistent_group_protocol))
        return
    syncing = SyncRequest(
        request.group_id,
        request.generation_id,
        request.member_id,
        getattr(request, "group_instance_id", None),
        {a.member_id: bytes(a.assignment) for a in request.assignments},
        protocol_type,
        protocol,
    )
    context.broker.groups.sync(syncing, answer)


def heartbeat(context: Context, request: Any) -> Response:
    instance_id = getattr(request, "group_instance_id", None)
    return {
        "error_code": context.broker.groups.heartbeat(
            request.group_id, request.generation_id, request.member_id, instance_id
        )
    }


def leave_group(context: Context, request: Any) -> Response:
    groups = context.broker.groups
    if context.version < 3:
        return {"error_code": groups.leave(request.group_id, request.member_id, None)}
    if not request.group_id:
        return {"error_code": ErrorCode.invalid_group_id}
    members = [
        {
            "member_id": member.member_id,
            "group_instance_id": member.group_instance_id,
            "error_code": groups.leave(request.group_id, member.member_id, member.group_instance_id),
        }
        for member in request.members
    ]
    return {"members": members}


def describe_groups(context: Context, request: Any) -> Response:
    asked = getattr(request, "include_authorized_operations", False)
    operations = {"authorized_operations": ALL_OPERATIONS} if asked else {}
    return {"groups": [{**_describe(context, group_id), **operations} for group_id in request.groups]}


def list_groups(context: Context, request: Any) -> Response:
    states = {state.lower() for state in getattr(request, "states_filter", ())}
    types = {kind.lower() for kind in getattr(request, "types_filter", ())}
    listed = [
        {
            "group_id": group.id,
            "protocol_type": group.protocol_type or "",
            "group_state": group.state,
            "group_type": "classic",
        }
        for group in context.broker.groups.by_id.values()
        if (not states or group.state.lower() in states) and (not types or "classic" in types)
    ]
    return {"groups": listed}


def delete_groups(context: Context, request: Any) -> Response:
    results = [{"group_id": group, "error_code": _delete(context.broker, group)} for group in request.groups_names]
    return {"results": results}


def _describe(context: Context, group_id: str) -> dict[str, Any]:
    group = context.broker.groups.by_id.get(group_id)
    if group is None:
        dead = {"group_id": group_id, "group_state": GroupState.DEAD}
        if context.version < 6:
            return dead
        return {
            **dead,
            "error_code": ErrorCode.group_id_not_found,
            "error_message": f"Group {group_id} not found.",
        }
    settled = group.state is GroupState.STABLE
    members = [
        {
            "member_id": member.id,
            "group_instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": "/" + member.client_host,
            "member_metadata": member.metadata(group.protocol) if settled else b"",
            "member_assignment": member.assignment if settled else b"",
        }
        for member in group.members.values()
    ]
    return {
        "group_id": group.id,
        "group_state": group.state,
        "protocol_type": group.protocol_type or "",
        "protocol_data": (group.protocol or "") if settled else "",
        "members": members,
    }


def _delete(broker: Broker, group_id: str) -> ErrorCode:
    try:
        broker.groups.delete(group_id)
        broker.offsets.delete_group(group_id)
    except Refused as refused:
        return refused.code
    return ErrorCode.none
