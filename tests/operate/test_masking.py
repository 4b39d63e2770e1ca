"""Listings of records mask what the system calls personal, and hide all where no system says so."""

import json
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import pytest

from millstream import Event, Personal, Topic, Value
from millstream.contracts import Contracts, Registry
from millstream.declare.personal import masked
from millstream.kafka import TopicSpec, connect
from millstream.settings import Settings
from millstream.telemetry.logs import configure_logs, get_logger
from millstream.testing.local import LocalKafka

Millstream = Callable[..., subprocess.CompletedProcess[str]]


class Ordered(Event, key="order_id", namespace="shop"):
    order_id: str
    what: Annotated[str, Personal]


Topic("shop.orders", Ordered, partitions=1)


@pytest.fixture
def told(kafka: LocalKafka, shop: Path) -> dict[str, str]:
    """A broker with two personal records: one whole, one dead and broken."""
    code = (shop / "shop.py").read_text()
    code = code.replace("what: str\n", "what: Annotated[str, Personal]\n", 1)
    (shop / "shop.py").write_text("from typing import Annotated\nfrom millstream import Personal\n" + code)
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin = cluster.admin()
    admin.ensure_topics([TopicSpec("shop.orders", 1), TopicSpec("shop.orders.dlq", 1)])
    admin.close()
    contracts = Contracts(Registry(kafka.registry))
    contracts.register([Ordered])
    producer = cluster.producer()
    value = contracts.encode(Ordered(order_id="o-1", what="a crutch"))
    producer.produce("shop.orders", value, b"o-1", [("ce_type", b"shop.Ordered")])
    dead = [("millstream-dlq-reason", b"forbidden"), ("millstream-dlq-message", b"a crutch?")]
    producer.produce("shop.orders.dlq", value, b"o-1", [("ce_type", b"shop.Ordered"), *dead])
    producer.produce("shop.orders.dlq", b"\x00a crutch", b"o-2", dead)
    producer.flush()
    producer.close()
    return {"MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLSTREAM_REGISTRY_URL": kafka.registry}


def test_tail_masks_personal_fields_unless_they_are_to_be_revealed(
    millstream: Millstream, told: dict[str, str], shop: Path
):
    (record,) = map(json.loads, millstream("tail", "shop.orders", "--no-follow", "--json", **told).stdout.splitlines())
    assert record["value"] == {"order_id": "o-1", "what": "••••••"}
    dead = millstream("tail", "shop.orders.dlq", "--no-follow", "--json", **told).stdout
    assert "crutch" not in dead
    assert b"crutch".hex() not in dead
    assert "forbidden" in dead
    assert "crutch" in millstream("tail", "shop.orders", "--no-follow", "--reveal", **told).stdout
    (shop / "shop.py").write_text("import nonsense")
    broken = millstream("tail", "shop.orders", "--no-follow", **told)
    assert (broken.returncode, "crutch" in broken.stdout) == (0, False)
    assert "`millstream topics` says why" in broken.stdout
    (shop / "pyproject.toml").write_text("")
    hidden = millstream("tail", "shop.orders", "--no-follow", **told).stdout
    assert "crutch" not in hidden
    assert "--system MODULE:NAME, or --reveal" in hidden


class Address(Value, namespace="shop"):
    street: Annotated[str, Personal]
    country: str


class Person(Value, namespace="shop"):
    name: Annotated[str, Personal]


@pytest.mark.parametrize("format", ["avro", "protobuf", "json_schema"])
def test_what_is_decoded_from_any_format_is_masked(shared_kafka: LocalKafka, format: Any):
    class Moved(Event, key="order_id", namespace="shop"):
        order_id: str
        by_kind: dict[str, tuple[Address, ...]]
        nested: tuple[tuple[Address, ...], ...]
        pair: tuple[str, Address]
        either: Person | Address | None
        eithers: tuple[Person | Address, ...]
        mail: Annotated[str | None, Personal] = None

    topic = Topic(f"masking.{format}", Moved, format=format)
    contracts = Contracts(Registry(shared_kafka.registry))
    contracts.register([Moved])
    home, ada = Address(street="secret", country="GB"), Person(name="secret")
    moved = Moved(
        order_id="o-1",
        by_kind={"home": (home,)},
        nested=((home,), (home, home)),
        pair=("work", home),
        either=home,
        eithers=(ada, home),
        mail="secret",
    )
    said = str(masked(Moved, contracts.decode_any(topic, contracts.encode(moved))))
    assert "secret" not in said
    assert said.count("GB") == 7
    assert "o-1" in said


@pytest.mark.parametrize("format", ["json", "text"])
def test_logs_mask_events(format: str):
    stream = StringIO()
    configure_logs("shop", format=format, stream=stream)  # pyright: ignore[reportArgumentType]
    get_logger("test").warning("refused", event_of=Ordered(order_id="o-1", what="a crutch"), n=1)
    said = stream.getvalue()
    assert "crutch" not in said
    assert "Ordered(order_id='o-1', what=••••••)" in said
