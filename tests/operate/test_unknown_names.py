"""A name that is not there: one line, with the nearest name and what there is, and exit code 2; in every command."""

import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from millstream.kafka import TopicSpec, connect
from millstream.operate.cli import main
from millstream.settings import Settings
from millstream.testing.local import LocalKafka

SHOP = """
    from millstream import Command, Event, Sandbox, Service, System, Topic
    from millstream.patterns.saga import Saga

    class Ordered(Event, key="order_id"):
        order_id: str

    class Pack(Command, key="order_id"):
        order_id: str

    class Packed(Event, key="order_id"):
        order_id: str

    class Shipped(Event, key="order_id"):
        order_id: str

    orders = Topic("NAME.orders", Ordered, partitions=1)
    parcels = Topic("NAME.parcels", Pack, partitions=1)
    packed = Topic("NAME.packed", Packed, partitions=1)
    shipped = Topic("NAME.shipped", Shipped, partitions=1)
    inventory = Service("inventory")
    packing = Service("packing")

    @packing.on(Pack)
    def pack(asked: Pack) -> Packed:
        return Packed(order_id=asked.order_id)

    Saga("shipment", starts=Ordered).step(Pack, done=Packed).completes(Shipped).mount(inventory)

    system = System(
        "shop", ["NAME:inventory", "NAME:packing"], [Sandbox("shoppers", "NAME:idle", optional=True)]
    )
"""


@dataclass
class Shop:
    """A system whose names are known; `name` stands before those of its topics."""

    name: str
    refused: "Refused"


class Refused:
    """Calls the command line in this process, and returns the one line that it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str) -> str:
        self._monkeypatch.setattr(sys, "argv", ["millstream", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        assert (ended.value.code, said.out) == (2, "")
        [line] = said.err.splitlines()
        return line.removeprefix("millstream: ")


@pytest.fixture
def shop(
    shared_kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shop]:
    name = f"s{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SHOP).replace("NAME", name))
    (tmp_path / "pyproject.toml").write_text(f'[tool.millstream]\nsystem = "{name}:system"\n')
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "packing.log").write_text("a line\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MILLSTREAM_BOOTSTRAP_SERVERS", shared_kafka.bootstrap)
    monkeypatch.setenv("MILLSTREAM_REGISTRY_URL", shared_kafka.registry)
    monkeypatch.setenv("MILLSTREAM_DATA_DIR", str(tmp_path))
    admin = connect(Settings(bootstrap_servers=shared_kafka.bootstrap)).admin()
    admin.ensure_topics([TopicSpec(f"{name}.orders", 1), TopicSpec(f"{name}.orders.dlq", 1)])
    admin.close()
    yield Shop(name, Refused(capsys, monkeypatch))
    sys.modules.pop(name, None)


NO_SERVICE = "shop has no service 'pakcing' (did you mean packing?); it has inventory, packing"
CASES = {
    "run": (["run", "pakcing"], f"{NO_SERVICE}, shoppers"),
    "run, nothing near": (["run", "x"], "shop has no service 'x'; it has inventory, packing, shoppers"),
    "reset": (["reset", "pakcing", "--to", "current"], NO_SERVICE),
    "logs": (["logs", "pakcing"], "There is no log of 'pakcing' (did you mean packing?) in"),
    "up": (["up", "--with", "shopers"], "--with shopers (did you mean shoppers?): shop has shoppers"),
    "tail": (["tail", "NAME.order"], "There is no topic 'NAME.order' (did you mean NAME.orders?);"),
    "dlq list": (["dlq", "list", "NAME.order"], "There is no topic 'NAME.order.dlq' (did you mean NAME.orders.dlq?)."),
    "dlq of a service": (["dlq", "redrive", "--service", "pakcing"], NO_SERVICE),
    "dlq, not there yet": (
        ["dlq", "list", "NAME.parcels"],
        "There is no topic 'NAME.parcels.dlq' yet: the service that reads it creates it at start",
    ),
    "an id on another topic": (["dlq", "show", "NAME.order.dlq:0:1"], "There is no topic 'NAME.order.dlq' (did you"),
    "an id that is none": (["dlq", "show", "17"], "'17' is no id of a dead letter: it is TOPIC:PARTITION:OFFSET"),
    "an id without a letter": (["dlq", "show", "NAME.orders.dlq:0:1"], "NAME.orders.dlq:0:1: there is no such record;"),
    "sagas": (["sagas", "list", "--saga", "shipmet"], "There is no saga 'shipmet' (did you mean shipment?): the"),
    "schemas": (["schemas", "show", "Orderd"], "shop has no class 'Orderd' (did you mean Ordered?) on a topic"),
    "two histories": (["schemas", "diff", "--registry", "http://x", "--lock", "x"], "--registry and --lock are two"),
    "simulate": (["simulate", "shopp"], "The system here is 'shop', not 'shopp'."),
    "help": (["help", "verfy"], "There is no page 'verfy' (did you mean verify?); `millstream help` lists what"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_unknown_name_is_one_line_with_the_names_that_there_are(shop: Shop, case: str):
    arguments, said = CASES[case]
    line = shop.refused(*(argument.replace("NAME", shop.name) for argument in arguments))
    assert line.startswith(said.replace("NAME", shop.name)), line
