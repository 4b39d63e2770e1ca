"""A deletion that failed: shown as a deletion, redriven without a value, discarded, and never made an event."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.errors import Rejected
from millstream.testing.local import LocalKafka

SYSTEM = """
    from millstream import Deleted, Event, Service, System, Topic

    class Ordered(Event, key="order_id", namespace="test"):
        order_id: str

    orders = Topic("{name}.orders", Ordered, partitions=2, compacted=True)
    {name}_packing = Service("{name}-packing")

    @{name}_packing.on(Deleted[Ordered])
    def unpack(ordered: Deleted[Ordered]) -> None: ...

    system = System("{name}", ["{name}:{name}_packing"])
"""


@pytest.fixture
def rig(shared_kafka: LocalKafka, tmp_path: Path) -> Iterator[DlqRig]:
    made = DlqRig(shared_kafka.bootstrap, shared_kafka.registry, tmp_path, SYSTEM)
    yield made
    made.close()


@pytest.fixture
def dead_letter(rig: DlqRig) -> str:
    producer = rig.kafka.producer()
    headers = [("ce_id", b"id-1"), ("ce_type", b"test.Ordered.Deleted"), ("nothing", None)]
    producer.produce(rig.orders, None, b"o-1", headers)
    producer.flush()
    producer.close()
    rig.dead_letter(*rig.records(rig.orders), error=Rejected("in_use", "it is being packed"), handler="unpack")
    [found] = rig.dead_letters()
    assert found.value is None
    return str(found.id)


@pytest.mark.parametrize(
    "arguments",
    [["--set", "order_id=o-1"], ["--value-file", "{folder}/whole.json"], ["--type", "Ordered"], []],
    ids=["fields", "a whole value", "a class", "an editor"],
)
def test_it_is_not_edited_and_the_remedy_is_named(rig: DlqRig, dead_letter: str, arguments: list[str]):
    (rig.folder / "whole.json").write_text('{"order_id": "o-1"}')
    given = [argument.format(folder=rig.folder) for argument in arguments]
    refused = rig.call("edit", dead_letter, *given, EDITOR="/no/such/editor", VISUAL="").refused
    assert f"{dead_letter} is a deletion" in refused
    assert f"`millstream dlq redrive {dead_letter}`" in refused
    assert f"`millstream dlq discard {dead_letter}`" in refused
    assert rig.redriven() == rig.actions() == []


def test_it_is_redriven_without_a_value(rig: DlqRig, dead_letter: str):
    assert rig.call("redrive", dead_letter).code == 0
    [redriven] = rig.redriven()
    assert (redriven.key(), redriven.value()) == (b"o-1", None)
    assert redriven.headers() == [("ce_id", b"id-1"), ("ce_type", b"test.Ordered.Deleted"), ("nothing", None)]


def test_it_is_discarded(rig: DlqRig, dead_letter: str):
    assert rig.call("discard", dead_letter).code == 0
    assert [(action["dead_letter"], action["action"]) for action in rig.actions()] == [(dead_letter, "discard")]
    assert rig.redriven() == []


def test_it_is_shown_as_a_record_without_a_value(rig: DlqRig, dead_letter: str):
    [row] = rig.call("list", "--json").rows
    assert (row["value"], row["key"], row["type"]) == (None, "o-1", "test.Ordered.Deleted")
    assert "value            (none)\n" in rig.call("show", dead_letter).output
    shown = json.loads(rig.call("show", dead_letter, "--json").output)
    assert (shown["value"], shown["headers"]["nothing"]) == (None, None)
