"""What holds whatever is done to a registry, restarts over a compacted topic included."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.local.registry.conftest import ListLog

from millstream.local.registry.errors import Refusal
from millstream.local.registry.offers import Offer
from millstream.local.registry.policies import Policies
from millstream.local.registry.records import SchemaRecord
from millstream.local.registry.registrar import Registrar
from millstream.local.registry.removal import Remover
from millstream.local.registry.store import Store

T = TypeVar("T")
SUBJECTS = st.sampled_from(["a", "b"])
SCHEMAS = st.sampled_from(['"string"', '"bytes"', '"int"', '"long"', '{"type": "long", "x": 1}'])
VERSIONS = st.one_of(st.none(), st.integers(1, 5))


class CompactedLog(ListLog):
    """Compacts as Kafka does: of each key the last record stays, in its place; a tombstone goes in the end."""

    def compact(self) -> None:
        for topic, records in self.topics.items():
            last = {key: i for i, (key, _) in enumerate(records)}
            self.topics[topic] = [r for i, r in enumerate(records) if last[r[0]] == i and r[1] is not None]


class Registries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = CompactedLog()
        self.guids: dict[int, str] = {}
        self.start()
        self.set_level(None, "NONE")

    def start(self) -> None:
        self.store = Store(self.log)
        self.run(self.store.load())
        self.registrar, self.remover = Registrar(self.store), Remover(self.store)
        self.policies = Policies(self.store)

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(doing)

    def tried(self, doing: Coroutine[Any, Any, T]) -> T | None:
        """The answer; None for a refusal, which must have changed nothing."""
        before = list(self.log.topics["_schemas"])
        try:
            return self.run(doing)
        except Refusal:
            assert self.log.topics["_schemas"] == before
            return None

    @rule(subject=SUBJECTS, schema=SCHEMAS)
    def register(self, subject: str, schema: str) -> None:
        known = self.store.catalog.versions(subject, deleted=True)
        made = self.tried(self.registrar.register(subject, Offer(schema)))
        if made is None:
            return
        assert self.guids.setdefault(made.id, made.guid) == made.guid, "an id means one schema for ever"
        assert made in known or made.version > max((entry.version for entry in known), default=0)
        assert self.run(self.registrar.register(subject, Offer(schema))) == made
        assert self.run(self.registrar.look_up(subject, Offer(schema), normalize=False, deleted=False)) == made
        assert self.run(self.registrar.register(subject, Offer(made.schema))) == made, "what is stored is its own form"

    @rule(subject=SUBJECTS, permanent=st.booleans())
    def delete_subject(self, subject: str, permanent: bool) -> None:
        numbers = self.tried(self.remover.delete_subject(subject, permanent=permanent))
        if numbers is not None:
            left = {entry.version for entry in self.store.catalog.versions(subject, deleted=permanent)}
            assert not left & set(numbers)

    @rule(subject=SUBJECTS)
    def forget_subject(self, subject: str) -> None:
        self.delete_subject(subject, permanent=False)
        self.delete_subject(subject, permanent=True)

    @rule(subject=SUBJECTS, version=VERSIONS, permanent=st.booleans())
    def delete_version(self, subject: str, version: int | None, permanent: bool) -> None:
        number = self.tried(self.remover.delete_version(subject, version, permanent=permanent))
        if number is not None:
            left = self.store.catalog.versions(subject, deleted=permanent)
            assert number not in [entry.version for entry in left]

    @rule(subject=st.one_of(st.none(), SUBJECTS), level=st.sampled_from(["NONE", "FULL", "BACKWARD"]))
    def set_level(self, subject: str | None, level: str) -> None:
        self.run(self.policies.update_config(subject, {"level": level}))

    @rule(subject=SUBJECTS)
    def clear_level(self, subject: str) -> None:
        self.tried(self.policies.delete_config(subject))

    @rule()
    def restart(self) -> None:
        before = self.everything()
        self.start()
        assert self.everything() == before

    @rule()
    @precondition(lambda self: self.log.topics["_schemas"])
    def compact_and_restart(self) -> None:
        before = self.everything()
        self.log.compact()
        self.start()
        assert self.everything() == before

    def everything(self) -> tuple[list[SchemaRecord], list[Any], int]:
        catalog = self.store.catalog
        return list(catalog.everything()), [catalog.config(of) for of in (None, "a", "b")], catalog.highest_id

    @invariant()
    def ids_and_schemas_agree(self) -> None:
        catalog = self.store.catalog
        for entry in catalog.everything():
            assert catalog.id_of(entry.guid) == entry.id
            assert catalog.with_id(entry.id) is not None
            assert entry in catalog.uses(entry.id, deleted=True)
            assert entry.id <= catalog.highest_id

    def teardown(self) -> None:
        self.loop.close()


Registries.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
test_the_laws_of_the_registry = pytest.mark.filterwarnings("ignore")(Registries.TestCase)
