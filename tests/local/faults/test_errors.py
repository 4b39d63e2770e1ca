"""An error on demand stands where Kafka puts it, in every version of every API."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

import pytest
from kio.index import load_payload_module
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.static.constants import EntityType
from tests.local.faults.conftest import Desk, request_frame

from millstream.local.broker.api.table import APIS
from millstream.local.faults.names import NAMES
from millstream.local.faults.request import Request

CODE = ErrorCode.policy_violation
EVERY = [
    (key, version)
    for key, api in APIS.items()
    for version in range(max(api.lowest, 3 if key == 0 else 0), api.highest + 1)
]


def sample(entity: Any) -> dict[str, Any]:
    """A request with one of everything: every array has one item, and every name is "orders"."""
    values: dict[str, Any] = {}
    for field in fields(entity):
        item = next(iter(_items(field.type)), None)
        if item is not None:
            number = isinstance(item, type) and issubclass(item, int)
            values[field.name] = [sample(item) if is_dataclass(item) else 1 if number else "orders"]
        elif field.metadata.get("kafka_type") == "string":
            values[field.name] = "orders"
        elif field.name in ("resource_type", "acks"):
            values[field.name] = {"resource_type": 2, "acks": -1}[field.name]
    return values


def _items(annotation: Any) -> list[Any]:
    options = (annotation, *get_args(annotation)) if get_origin(annotation) is not tuple else (annotation,)
    return [get_args(option)[0] for option in options if get_origin(option) is tuple]


def errors_in(answer: Any) -> list[ErrorCode]:
    found = []
    for field in fields(answer):
        value = getattr(answer, field.name)
        if isinstance(value, ErrorCode):
            found.append(value)
        for item in value if isinstance(value, tuple) else ():
            if is_dataclass(item):
                found += errors_in(item)
    return found


@pytest.mark.parametrize(("key", "version"), EVERY, ids=[f"{NAMES[key]}-{version}" for key, version in EVERY])
def test_every_api_can_be_refused_in_every_version(desk: Desk, key: int, version: int):
    module = load_payload_module(key, version, EntityType.request)
    entity = getattr(module, f"{NAMES[key]}Request")
    values = sample(entity)
    if key == 3 and version == 0:
        values = {"topics": [{"name": "orders"}]}
    with desk.rules.error(NAMES[key], "POLICY_VIOLATION") as rule:
        answer = desk.ask(api_key_map[key], version, **values)
    assert CODE in errors_in(answer)
    assert rule.hits == 1
    nested = [code for code in errors_in(answer) if code is not CODE]
    assert nested in ([], [ErrorCode.none]), "the top may be free of it, where the parts have it"


def test_a_partition_has_the_error_and_no_offset(desk: Desk):
    with desk.rules.error("Produce", "NOT_ENOUGH_REPLICAS"):
        (topic,) = desk.produce("orders").responses
    (partition,) = topic.partition_responses
    assert (topic.name, partition.index, partition.error_code) == ("orders", 0, ErrorCode.not_enough_replicas)
    assert (partition.base_offset, partition.log_append_time, partition.log_start_offset) == (-1, None, -1)
    assert desk.end_of("orders") == 0


def test_only_the_topic_that_is_named_is_refused(desk: Desk):
    with desk.rules.error("Produce", "NOT_ENOUGH_REPLICAS", topic="orders"):
        answer = desk.produce("orders", "payments")
    codes = {topic.name: topic.partition_responses[0].error_code for topic in answer.responses}
    assert codes == {"orders": ErrorCode.not_enough_replicas, "payments": ErrorCode.none}
    assert (desk.end_of("orders"), desk.end_of("payments")) == (0, 1)


def test_other_topics_do_not_meet_the_rule(desk: Desk):
    with desk.rules.error("Produce", "NOT_ENOUGH_REPLICAS", topic="orders") as rule:
        desk.produce("payments")
    assert (rule.seen, desk.end_of("payments")) == (0, 1)


def test_a_producer_that_wants_no_answer_is_hung_up_on(desk: Desk):
    with desk.rules.error("Produce", "NOT_ENOUGH_REPLICAS"):
        desk.produce("orders", acks=0)
    assert (desk.hang_ups, desk.answers) == (1, [])


def fetch(desk: Desk, *topics: str, session_id: int = 0, epoch: int = 0, version: int = 12) -> Any:
    wanted = [
        {"topic": topic, "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20}]}
        for topic in topics
    ]
    return desk.ask(
        "fetch", version, max_wait=60_000, min_bytes=1, max_bytes=1 << 20,
        session_id=session_id, session_epoch=epoch, topics=wanted,
    )  # fmt: skip


def test_a_reader_of_several_topics_is_told_of_the_error_at_once(desk: Desk):
    with desk.rules.error("Fetch", "NOT_LEADER_OR_FOLLOWER", topic="orders"):
        answer = fetch(desk, "orders", "payments")
    codes = {topic.topic: topic.partitions[0].error_code for topic in answer.responses}
    assert codes == {"orders": ErrorCode.not_leader_or_follower, "payments": ErrorCode.none}


def test_a_reader_in_a_fetch_session_meets_the_rule_too(desk: Desk):
    desk.produce("orders")
    session = fetch(desk, "orders").session_id
    assert session
    with desk.rules.error("Fetch", "NOT_LEADER_OR_FOLLOWER", topic="orders") as rule:
        assert fetch(desk, session_id=session, epoch=1).error_code is ErrorCode.fetch_session_id_not_found
        answer = fetch(desk, "orders")
        assert (answer.session_id, rule.hits) == (0, 1)
        assert answer.responses[0].partitions[0].error_code is ErrorCode.not_leader_or_follower
    assert fetch(desk, "orders").session_id


def test_what_concerns_the_coordinator_is_said_once(desk: Desk):
    asked = {
        "groups": [{"group_id": "g", "member_epoch": -1, "topics": [{"name": "orders", "partition_indexes": [0]}]}]
    }
    with desk.rules.error("OffsetFetch", "NOT_COORDINATOR", group="g"):
        (group,) = desk.ask("offset_fetch", 9, **asked).groups
    assert (group.group_id, group.error_code, group.topics) == ("g", ErrorCode.not_coordinator, ())
    with desk.rules.error("OffsetFetch", "UNSTABLE_OFFSET_COMMIT", group="g"):
        (group,) = desk.ask("offset_fetch", 9, **asked).groups
    partition = group.topics[0].partitions[0]
    assert (group.error_code, partition.error_code) == (ErrorCode.none, ErrorCode.unstable_offset_commit)
    assert (partition.partition_index, partition.committed_offset) == (0, -1)


def test_a_topic_without_a_leader_leaves_the_others_in_the_metadata(desk: Desk):
    with desk.rules.error("Metadata", "LEADER_NOT_AVAILABLE", topic="orders"):
        answer = desk.ask("metadata", 9, topics=[{"name": "orders"}, {"name": "payments"}])
    found = {topic.name: (topic.error_code, len(topic.partitions)) for topic in answer.topics}
    assert found == {"orders": (ErrorCode.leader_not_available, 0), "payments": (ErrorCode.none, 2)}
    assert len(answer.brokers) == 1


def test_a_request_knows_the_topics_that_it_names_by_id(desk: Desk):
    topic_id = desk.broker.topics.by_name["orders"].id
    frame = request_frame("fetch", 16, topics=[{"topic_id": topic_id, "partitions": [{"partition": 0}]}])
    by_id = desk.broker.topics.by_id
    assert Request(frame, lambda asked: by_id[asked].name).topics == {"orders"}


@pytest.mark.parametrize(
    ("api", "values", "field", "expected"),
    [
        ("find_coordinator", {"key_type": 1, "coordinator_keys": ["t-1"]}, "transactional_ids", {"t-1"}),
        ("find_coordinator", {"key_type": 0, "coordinator_keys": ["g-1", "g-2"]}, "groups", {"g-1", "g-2"}),
        ("describe_configs", {"resources": [{"resource_type": 2, "resource_name": "orders"}]}, "topics", {"orders"}),
        ("describe_configs", {"resources": [{"resource_type": 4, "resource_name": "1"}]}, "topics", set[str]()),
        ("end_txn", {"transactional_id": "t-1"}, "transactional_ids", {"t-1"}),
    ],
)
def test_a_request_knows_whom_it_names(api: str, values: dict[str, Any], field: str, expected: set[str]):
    frame = request_frame(api, 4 if api != "end_txn" else 3, **values)
    assert getattr(Request(frame, lambda _: None), field) == expected
