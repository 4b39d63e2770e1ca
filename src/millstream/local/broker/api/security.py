"""ACLs, SASL, delegation tokens, credentials and quotas: the local broker has none, and says so with Kafka's errors."""

from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.api.context import Context
from millstream.local.broker.wire.control import Response

NO_AUTHORIZER = {"error_code": ErrorCode.security_disabled, "error_message": "No Authorizer is configured."}


def describe_acls(context: Context, request: Any) -> Response:
    return NO_AUTHORIZER


def create_acls(context: Context, request: Any) -> Response:
    return {"results": [NO_AUTHORIZER for _ in request.creations]}


def delete_acls(context: Context, request: Any) -> Response:
    return {"filter_results": [NO_AUTHORIZER for _ in request.filters]}


def sasl_handshake(context: Context, request: Any) -> Response:
    return {"error_code": ErrorCode.illegal_sasl_state}


def sasl_authenticate(context: Context, request: Any) -> Response:
    return {"error_code": ErrorCode.illegal_sasl_state, "error_message": "this listener does not authenticate"}


def delegation_token(context: Context, request: Any) -> Response:
    """Nobody is authenticated, so nobody may ask."""
    return {"error_code": ErrorCode.delegation_token_request_not_allowed, "error_message": None}


def describe_user_scram_credentials(context: Context, request: Any) -> Response:
    unknown = {"error_code": ErrorCode.resource_not_found}
    results = [
        {"user": user.name, "error_message": f"the local broker keeps no credentials, none of {user.name}", **unknown}
        for user in request.users or ()
    ]
    return {"results": results, "error_message": ""}


def alter_user_scram_credentials(context: Context, request: Any) -> Response:
    reason = "the local broker keeps no credentials"
    deleted = {deletion.name: ErrorCode.resource_not_found for deletion in request.deletions}
    inserted = {insertion.name: ErrorCode.unsupported_sasl_mechanism for insertion in request.upsertions}
    results = [
        {"user": user, "error_code": error, "error_message": reason} for user, error in (deleted | inserted).items()
    ]
    return {"results": results}


def describe_client_quotas(context: Context, request: Any) -> Response:
    return {"entries": (), "error_message": ""}


def alter_client_quotas(context: Context, request: Any) -> Response:
    refusal = {"error_code": ErrorCode.invalid_request, "error_message": "the local broker keeps no quotas"}
    entries = [
        {**refusal, "entity": [{"entity_type": e.entity_type, "entity_name": e.entity_name} for e in entry.entity]}
        for entry in request.entries
    ]
    return {"entries": entries}
