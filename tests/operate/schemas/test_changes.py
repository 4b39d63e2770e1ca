"""Breaking changes are found, with their field and their remedy; safe ones pass; and the registry agrees on each."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.operate.schemas.changes import BREAKING, MEANING, SAFE, Change, source

from millstream import Event, System
from millstream.operate.schemas.declared import Declared, declared
from millstream.operate.schemas.finding import Finding
from millstream.operate.schemas.history import History, RegistryHistory
from millstream.operate.schemas.judge import judge
from millstream.operate.schemas.lock import Lock
from millstream.testing.local import LocalKafka

Systems = Callable[..., System]


class Ordered(Event, key="order_id", namespace="shop"):
    """Stands for a class whose schema is given as it is."""

    order_id: str


@pytest.fixture
def versions(system_of: Systems) -> Callable[[Change, str], tuple[Declared, Declared]]:
    """Old and new of a change, on a topic."""

    def make(change: Change, topic: str) -> tuple[Declared, Declared]:
        if str(change.old).startswith("{"):
            old, new = (Declared(topic, Ordered, f"{topic}-shop.Ordered", "AVRO", text) for text in change[1:3])
            return old, new
        (old,) = declared(system_of(source(change.old), topic, format=change.format))
        del sys.modules["shop"]
        (new,) = declared(system_of(source(change.new), topic, format=change.format))
        return old, new

    return make


def locked(old: Declared, level: str, folder: Path) -> Lock:
    lock = Lock(folder / "schemas.lock.json")
    lock.set_level(level)
    lock.add(old)
    lock.write()
    return Lock.read(lock.path)


def registered(old: Declared, level: str, url: str) -> RegistryHistory:
    history = RegistryHistory(url)
    history.add(old.subject, old.type, old.text)
    httpx.put(f"{url}/config/{old.subject}", json={"compatibility": level}).raise_for_status()
    return history


def objections_of(url: str, new: Declared) -> list[str]:
    """What the registry itself says, by its own route."""
    path = f"/compatibility/subjects/{new.subject}/versions"
    offer = {"schema": new.text, "schemaType": new.type}
    answer = httpx.post(url + path, params={"verbose": "true"}, json=offer).raise_for_status().json()
    assert answer["is_compatible"] == (not answer["messages"])
    return answer["messages"]


def found_in(new: Declared, history: History) -> tuple[Finding, ...]:
    verdict = judge(new, history)
    assert verdict.state == "changed"
    return verdict.findings


def test_there_are_twenty_of_each():
    assert len(BREAKING) >= 20
    assert len(SAFE) >= 20
    for changes in (BREAKING, MEANING, SAFE):
        assert len({change.name for change in changes}) == len(changes)


@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.name.replace(" ", "-"))
def test_a_breaking_change_is_named_with_its_field_and_its_remedy(
    change: Change, versions: Callable[..., tuple[Declared, Declared]], tmp_path: Path, shared_kafka: LocalKafka
):
    old, new = versions(change, f"shop.{uuid.uuid4().hex[:8]}")
    findings = found_in(new, locked(old, change.level, tmp_path))
    first = next(finding for finding in findings if finding.rule == change.rule)
    assert (first.topic, first.contract, first.field) == (new.topic, "shop.Ordered", change.field)
    assert (first.level, first.version) == (change.level, 1)
    assert change.fix in first.remedy
    assert change.field.rpartition(".")[2] in first.problem
    assert f"{new.topic}  shop.Ordered.{change.field}\n" in str(first)
    assert f"→ {first.remedy}" in str(first)

    assert found_in(new, registered(old, change.level, shared_kafka.registry)) == findings
    messages = objections_of(shared_kafka.registry, new)
    assert [finding.rule for finding in findings] == [
        message.split("'")[1] for message in messages if message.startswith("{errorType")
    ]


@pytest.mark.parametrize("change", MEANING, ids=lambda change: change.name.replace(" ", "-"))
def test_a_change_of_meaning_is_found_by_the_gate_where_registries_let_it_pass(
    change: Change, versions: Callable[..., tuple[Declared, Declared]], tmp_path: Path, shared_kafka: LocalKafka
):
    old, new = versions(change, f"shop.{uuid.uuid4().hex[:8]}")
    findings = found_in(new, locked(old, change.level, tmp_path))
    assert {(finding.rule, finding.field) for finding in findings} == {(change.rule, change.field)}
    assert change.fix in findings[0].remedy
    assert change.field.rpartition(".")[2] in findings[0].problem

    assert found_in(new, registered(old, change.level, shared_kafka.registry)) == findings
    assert objections_of(shared_kafka.registry, new) == []


def test_a_change_of_meaning_is_told_in_the_words_of_who_writes_classes(
    versions: Callable[..., tuple[Declared, Declared]], tmp_path: Path
):
    old, new = versions(MEANING[0], "shop.told")
    (finding,) = found_in(new, locked(old, "BACKWARD", tmp_path))
    assert finding.problem == "new code takes total for decimal(18, 2), and old records have decimal(18, 4)"
    old, new = versions(next(change for change in MEANING if change.name == "str to UUID"), "shop.told")
    (finding,) = found_in(new, locked(old, "BACKWARD", tmp_path))
    assert finding.problem == "new code takes id for UUID, and old records have str"


@pytest.mark.parametrize("change", SAFE, ids=lambda change: change.name.replace(" ", "-"))
def test_a_safe_change_passes(
    change: Change, versions: Callable[..., tuple[Declared, Declared]], tmp_path: Path, shared_kafka: LocalKafka
):
    old, new = versions(change, f"shop.{uuid.uuid4().hex[:8]}")
    assert old.text != new.text
    assert found_in(new, locked(old, change.level, tmp_path)) == ()
    assert found_in(new, registered(old, change.level, shared_kafka.registry)) == ()
    assert objections_of(shared_kafka.registry, new) == []
