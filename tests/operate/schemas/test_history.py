"""All earlier versions count where the level says so, a schema that was there before passes, and references resolve."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.operate.schemas.changes import record

from millstream import Event, System
from millstream.errors import ConfigurationError
from millstream.operate.schemas.declared import Declared
from millstream.operate.schemas.gate import compare
from millstream.operate.schemas.history import RegistryHistory
from millstream.operate.schemas.judge import judge
from millstream.operate.schemas.lock import Lock
from millstream.testing.local import LocalKafka

FIRST, SECOND, THIRD = record(("a", "long")), record(), record(("a", "string", ""))


class Ordered(Event, key="order_id", namespace="shop"):
    order_id: str


def declared(text: str, topic: str = "history.events", kind: str = "AVRO") -> Declared:
    return Declared(topic, Ordered, f"{topic}-shop.Ordered", kind, text)


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    """A file with two versions."""
    made = Lock(tmp_path / "schemas.lock.json")
    made.add(declared(FIRST))
    made.add(declared(SECOND))
    made.write()
    return Lock.read(made.path)


@pytest.mark.parametrize(("level", "breaks"), [("BACKWARD", []), ("BACKWARD_TRANSITIVE", [1]), ("NONE", [])])
def test_a_transitive_level_asks_all_versions(lock: Lock, level: str, breaks: list[int], shared_kafka: LocalKafka):
    lock.set_level(level)
    assert [finding.version for finding in judge(declared(THIRD), lock).findings] == breaks
    topic = f"history.{level.lower()}"
    registry = RegistryHistory(shared_kafka.registry)
    for text in (FIRST, SECOND):
        registry.add(f"{topic}-shop.Ordered", "AVRO", text)
    httpx.put(f"{shared_kafka.registry}/config/{topic}-shop.Ordered", json={"compatibility": level}).raise_for_status()
    assert [finding.version for finding in judge(declared(THIRD, topic), registry).findings] == breaks


def test_a_schema_that_was_there_before_passes_as_in_a_registry(lock: Lock):
    verdict = judge(declared(FIRST), lock)
    assert (verdict.state, verdict.findings) == ("same", ())


def test_a_topic_in_another_format_breaks_and_begins_anew_once_accepted(lock: Lock):
    proto = declared(
        'syntax = "proto3";\npackage shop;\nmessage Ordered {\n  string order_id = 1;\n}\n', kind="PROTOBUF"
    )
    (finding,) = judge(proto, lock).findings
    assert (finding.rule, finding.version) == ("DIFFERENT_SCHEMA_TYPE", 2)
    assert "declare a new topic" in finding.remedy
    lock.add(proto)
    lock.write()
    kept = Lock.read(lock.path)
    assert [(version.number, version.type) for version in kept.versions(proto.subject)] == [(1, "PROTOBUF")]
    assert judge(proto, kept).state == "same"
    assert '"message Ordered {",' in lock.path.read_text()


def test_a_subject_may_have_a_level_of_its_own(lock: Lock):
    content = json.loads(lock.path.read_text())
    content["subjects"]["history.events-shop.Ordered"]["compatibility"] = "FULL"
    lock.path.write_text(json.dumps(content))
    assert Lock.read(lock.path).level("history.events-shop.Ordered") == "FULL"
    content["subjects"]["history.events-shop.Ordered"]["compatibility"] = "HALF"
    lock.path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="'HALF' is no level; take one of NONE, BACKWARD"):
        Lock.read(lock.path)


def test_versions_with_references_are_judged_whole(shared_kafka: LocalKafka):
    history = RegistryHistory(shared_kafka.registry)
    history.add("history.size", "AVRO", '{"type":"enum","name":"Size","namespace":"shop","symbols":["S","M"]}')
    offer = {
        "schema": record(("size", "shop.Size")),
        "references": [{"name": "shop.Size", "subject": "history.size", "version": 1}],
    }
    subject = "history.referring-shop.Ordered"
    httpx.post(f"{shared_kafka.registry}/subjects/{subject}/versions", json=offer).raise_for_status()
    narrower = record(("size", {"type": "enum", "name": "Size", "symbols": ["S"]}))
    (finding,) = judge(declared(narrower, "history.referring"), history).findings
    assert (finding.rule, finding.field) == ("MISSING_ENUM_SYMBOLS", "size")


def test_values_of_stores_are_judged_too(system_of: Callable[..., System], tmp_path: Path):
    source = """
    class Ordered(Event, key='order_id'):
        order_id: str
    class Kept(Value):
        count: {}
    """
    lock = Lock(tmp_path / "schemas.lock.json")
    for kind, found in (("int", []), ("str", ["count"])):
        system = system_of(source.format(kind))
        _keep_in_a_store(system)
        report = compare(system, lock)
        assert [finding.field for finding in report.breaking] == found
        for verdict in report.unrecorded:
            lock.add(verdict.declared)
    assert lock.subjects() == ["desk.kept.changelog-shop.Kept", "shop.events-shop.Ordered"]


def _keep_in_a_store(system: System) -> None:
    import sys
    from typing import Annotated, Any

    from millstream import State, Store

    shop: Any = sys.modules["shop"]
    store = Store("kept", shop.Kept)

    def keep(event: Any, kept: Annotated[State[Any], store]) -> None: ...

    shop.desk.on(shop.Ordered)(keep)
    assert system.service("desk").stores() == (store,)
