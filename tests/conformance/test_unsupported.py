"""What is not there says so: security that is not configured, versions and requests that nobody speaks."""

import socket
import struct
from typing import Any

import pytest

ANY = 1


def test_there_are_no_acls_without_an_authorizer(clients: Any):
    wanted = {"resource_type_filter": ANY, "pattern_type_filter": ANY, "operation": ANY, "permission_type": ANY}
    names = {"resource_name_filter": None, "principal_filter": None, "host_filter": None}
    answer = clients.wire.any.ask("describe_acls", 3, **wanted, **names)
    assert answer.error_code.name == "security_disabled"
    assert answer.error_message
    answer = clients.wire.any.ask("delete_acls", 3, filters=[{**wanted, **names}])
    assert answer.filter_results[0].error_code.name == "security_disabled"


def test_no_acl_is_made_without_an_authorizer(clients: Any):
    acl = {"resource_type": 2, "resource_name": "t", "resource_pattern_type": 3, "principal": "User:a", "host": "*"}
    answer = clients.wire.any.ask("create_acls", 3, creations=[{**acl, "operation": 3, "permission_type": 3}])
    assert [result.error_code.name for result in answer.results] == ["security_disabled"]


def test_nobody_authenticates_on_a_plain_listener(clients: Any):
    assert clients.wire.any.ask("sasl_handshake", 1, mechanism="PLAIN").error_code.name == "illegal_sasl_state"
    assert clients.wire.any.ask("sasl_authenticate", 2, auth_bytes=b"x").error_code.name == "illegal_sasl_state"


def test_nobody_asks_for_tokens_on_a_plain_listener(clients: Any):
    answer = clients.wire.any.ask("describe_delegation_token", 3, owners=None)
    assert answer.error_code.name == "delegation_token_request_not_allowed"


def test_credentials_that_are_not_there(clients: Any):
    assert clients.wire.any.ask("describe_user_scram_credentials", 0, users=None).error_code.name == "none"
    answer = clients.wire.any.ask("describe_user_scram_credentials", 0, users=[{"name": "nobody"}])
    assert [(r.user, r.error_code.name) for r in answer.results] == [("nobody", "resource_not_found")]
    deletion = {"name": "nobody", "mechanism": 1}
    answer = clients.wire.any.ask("alter_user_scram_credentials", 0, deletions=[deletion], upsertions=[])
    assert [(r.user, r.error_code.name) for r in answer.results] == [("nobody", "resource_not_found")]


def test_there_are_no_quotas(clients: Any):
    answer = clients.wire.any.ask("describe_client_quotas", 1, components=[], strict=False)
    assert (answer.error_code.name, answer.entries) == ("none", ())


def test_a_quota_that_cannot_be_is_refused(clients: Any):
    entity = [{"entity_type": "user", "entity_name": "u"}]
    operation = {"key": "no_such_rate", "value": 1.0, "remove": False}
    entries = [{"entity": entity, "ops": [operation]}]
    answer = clients.wire.any.ask("alter_client_quotas", 1, entries=entries, validate_only=False)
    assert answer.entries[0].error_code.name == "invalid_request"


def raw(clients: Any, key: int, version: int, body: bytes) -> bytes:
    """What comes back from the first broker for these bytes; nothing if it hangs up."""
    host, port = clients.cluster.bootstrap.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        frame = struct.pack(">hhih", key, version, 7, 1) + b"c" + body
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        try:
            return connection.recv(1 << 16)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    ("key", "version"),
    [(3, 99), (3, -1), (0, 2), (1, 3), (19, 1), (68, 9), (4, 0), (58, 0), (999, 0), (-1, 0)],
)
def test_what_nobody_speaks_ends_the_connection(clients: Any, key: int, version: int):
    assert raw(clients, key, version, b"\0" * 16) == b""


def test_a_request_that_ends_too_early_ends_the_connection(clients: Any):
    assert raw(clients, 3, 9, b"\0\x05") == b""


def test_an_unknown_version_of_the_first_question_is_answered_in_the_first_form(clients: Any):
    answer = raw(clients, 18, 99, b"\0" * 8)
    _, correlation, error, count = struct.unpack_from(">iihi", answer)
    keys = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[14 : 14 + 6 * count])}
    assert (correlation, error) == (7, 35)
    assert keys[18] in ((0, 4), (0, 5))  # Apache Kafka 4.4 speaks one more


def test_every_version_of_the_first_question_is_answered(clients: Any):
    for version in range(5):
        named = {"client_software_name": "test", "client_software_version": "1"} if version >= 3 else {}
        answer = clients.wire.any.ask("api_versions", version, **named)
        assert answer.error_code.name == "none"
        assert 18 in {api.api_key for api in answer.api_keys}


def test_a_name_of_a_client_that_cannot_be_is_refused(clients: Any):
    answer = clients.wire.any.ask("api_versions", 3, client_software_name="-", client_software_version="1")
    assert answer.error_code.name == "invalid_request"
