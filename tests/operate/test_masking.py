"""Listings of records mask what the system calls personal, and hide all where no system says so."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from millstream import Event, Personal, Service, Topic, Value
from millstream.contracts import Contracts, Registry
from millstream.declare import Kind, full_name, load
from millstream.declare.personal import MASK, masked
from millstream.kafka import TopicSpec, connect
from millstream.runtime.records.dead_letter import dead_letter
from millstream.runtime.task.timers import FiredTimer, SetTimer
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


@pytest.mark.slow
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


REMINDING = """

    class Remind(Timer, key="order_id", namespace="shop"):
        order_id: str
        email: Annotated[str, Personal]

    reminding = Service("reminding")

    @reminding.on(Ordered)
    def remember(ordered: Ordered, timers: Timers) -> None: ...

    @reminding.on(Remind)
    def remind(due: Remind) -> None: ...

    reminded = System("reminded", ["shop:reminding"])
"""


@pytest.fixture
def reminded(kafka: LocalKafka, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A broker with a timer of a personal field, dead, parked and redriven."""
    code = "from typing import Annotated\nfrom millstream import Personal, Timer, Timers\n"
    (shop / "shop.py").write_text(code + (shop / "shop.py").read_text() + textwrap.dedent(REMINDING))
    monkeypatch.syspath_prepend(str(shop))
    service, timer = load("shop:reminding", Service), load("shop:Remind", type)
    due = timer(order_id="o-1", email="ada@example.org")
    names = {name: f"{name}-1" for name in ("id", "correlation_id", "causation_id")}
    payload, number = msgspec.msgpack.encode(due), time.time_ns() // 1000
    was_set = SetTimer(number=number, due=time.time(), type=full_name(timer), key="o-1", payload=payload, **names)
    fired = FiredTimer(service.timers_topic(Kind.KAFKA), 0, was_set)
    trouble = ValueError("cannot mail ada@example.org")
    dead = dead_letter(fired, service="reminding", handler="remind", error=trouble, attempts=1)
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin, producer = cluster.admin(), cluster.producer()
    for topic in (
        dead[0],
        service.timers_topic(Kind.KAFKA),
        service.parked_topic(Kind.KAFKA),
        service.redrive_topic(Kind.KAFKA),
    ):
        admin.ensure_topics([TopicSpec(topic, 1)])
        headers = dead[3] if topic == dead[0] else fired.headers()
        producer.produce(topic, fired.value(), fired.key(), headers)
    producer.flush()
    producer.close()
    admin.close()
    yield {"MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLSTREAM_REGISTRY_URL": kafka.registry}
    sys.modules.pop("shop", None)


@pytest.mark.slow
def test_what_a_timer_carries_is_masked_wherever_it_waits(millstream: Millstream, reminded: dict[str, str]):
    here = ("--system", "shop:reminded")
    letter = json.loads(millstream("dlq", "list", "--json", *here, **reminded).stdout)
    assert (letter["topic"], letter["key"]) == ("reminding.kafka.timers", "o-1")
    shown = [
        millstream("dlq", "list", *here, **reminded).stdout,
        millstream("dlq", "show", letter["id"], *here, **reminded).stdout,
        json.dumps(letter, ensure_ascii=False),
    ]
    for topic in ("timers", "timers.dlq", "parked", "redrive"):
        tailed = millstream("tail", f"reminding.kafka.{topic}", "--no-follow", "--json", *here, **reminded).stdout
        assert '"o-1"' in tailed
        shown.append(tailed)
    for said in shown:
        assert MASK in said or json.dumps(MASK)[1:-1] in said
        assert "ada@" not in said
        assert b"o-1".hex() not in said, "the beginning of the timer's bytes"
    assert "cannot mail ada@" in millstream("dlq", "list", "--reveal", *here, **reminded).stdout


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
