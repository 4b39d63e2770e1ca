"""`millstream verify` on a log with planted violations, as people and programs call it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.contracts import Contracts, Registry, header_writer
from millstream.declare import home_of, key_of, load
from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

SHOP = """
    from millstream import Event, System, Topic
    from millstream.declare.invariant import Cases, Causes, Total

    class Ordered(Event, key="order_id", namespace="shop"):
        order_id: str

    class Packed(Event, key="order_id", namespace="shop"):
        order_id: str

    orders = Topic("shop.orders", Ordered, partitions=2)
    parcels = Topic("shop.parcels", Packed, partitions=1)
    parcel = Cases("order", Ordered, Packed)

    @parcel.invariant
    def is_packed_once(order):
        if (times := order.count(Packed)) > 1:
            yield f"it is packed {times} times"
        if order.at_rest and order[Ordered] and not order[Packed]:
            yield "it is not packed"

    invariants = (parcel, Causes(Packed, known=[Ordered]))
    system = System("shop", services=[], invariants="verified_shop:invariants")
    bare = System("bare", services=[])

    number = Cases("number", Ordered)
    shelf = Total("shelf", {parcel: lambda order: {"parcels": order.count(Ordered) - order.count(Packed)}})

    @number.invariant
    def is_small(order):
        if int(order.key.removeprefix("o-")) > 100:
            yield "it is large"

    @shelf.invariant
    def never_negative(parcels):
        if parcels.balance < 0:
            yield f"{-parcels.balance} more are packed than ordered"

    counting = (parcel, number, shelf)
    counted = System("counted", services=[], invariants="verified_shop:counting")
"""
COUNTED = ("--system", "verified_shop:counted")


class Shop:
    """A system of one folder on a broker."""

    def __init__(self, kafka: LocalKafka, folder: Path) -> None:
        self.folder = folder
        (folder / "verified_shop.py").write_text(textwrap.dedent(SHOP))
        (folder / "pyproject.toml").write_text('[tool.millstream]\nsystem = "verified_shop:system"\n')
        self.env = {
            **os.environ,
            "MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "MILLSTREAM_REGISTRY_URL": kafka.registry,
            "NO_COLOR": "1",
        }
        self.contracts = Contracts(Registry(kafka.registry))
        self.kafka: Kafka = connect(Settings(bootstrap_servers=kafka.bootstrap), "test")

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics([TopicSpec("shop.orders", 2), TopicSpec("shop.parcels", 1)])
        admin.close()

    def send(self, name: str, order: str, id: str, cause: str | None = None, time: str | None = None) -> None:
        event = load(f"verified_shop:{name}", type)(order_id=order)
        headers = header_writer(type(event), "test")(id, id, cause, None)
        if time is not None:
            headers = [(header, time.encode() if header == "ce_time" else value) for header, value in headers]
        self.produce(home_of(type(event)).name, self.contracts.encode(event), key_of(event).encode(), headers)

    def produce(self, *record: Any) -> None:
        producer = self.kafka.producer()
        producer.produce(*record)
        producer.flush()
        producer.close()

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "millstream"), "verify", *arguments]

    def verify(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def shop(kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    made = Shop(kafka, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield made
    sys.modules.pop("verified_shop", None)


@pytest.fixture
def right(shop: Shop) -> Shop:
    """One order that is as it must be."""
    shop.make_topics()
    shop.send("Ordered", "o-1", "id-1")
    shop.send("Packed", "o-1", "id-2", "id-1")
    return shop


def test_where_all_is_right_there_is_nothing_to_report(right: Shop):
    result = right.verify()
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "nothing to report: 2 events, 1 cases, 0 of them under way, 0 records that cannot be read\n"
    )


def test_each_violation_is_shown_with_the_events_that_prove_it(right: Shop):
    right.send("Packed", "o-1", "id-3", "id-1")
    right.send("Ordered", "o-2", "id-4")
    right.send("Packed", "o-3", "id-5", "nobody")
    right.produce("shop.parcels", b"\x00\x01", b"?")
    result = right.verify("--json")
    report = json.loads(result.stdout)
    assert result.returncode == 1
    found = {(one["invariant"], one["key"]): one for one in report["violations"]}
    assert {name: one["sentence"] for name, one in found.items()} == {
        ("order: is packed once", "o-1"): "it is packed 2 times",
        ("order: is packed once", "o-2"): "it is not packed",
        ("every step has its cause", "id-5"): "shop.Packed: its cause nobody is not there",
    }
    proof = found["order: is packed once", "o-1"]["evidence"]
    assert [(fact["topic"], fact["offset"], fact["id"]) for fact in proof][:2] == [
        ("shop.parcels", 0, "id-2"),
        ("shop.parcels", 1, "id-3"),
    ]
    assert report["undecodable"] == {"shop.parcels": 1}
    assert list(report["unreadable"]) == ["shop.parcels[0]@3"]
    shown = right.verify()
    assert shown.returncode == 1
    for said in ("it is packed 2 times", "shop.parcels[0]@1 shop.Packed id-3", "3 violations", "1 records that cannot"):
        assert said in shown.stdout


def test_an_invariant_that_is_broken_is_neither_right_nor_wrong(right: Shop):
    right.send("Ordered", "o-x", "id-3")
    right.send("Packed", "o-x", "id-4", "id-3")
    result = right.verify(*COUNTED)
    assert (result.returncode, result.stderr) == (2, "")
    for said in ("number: is small", "o-x", "raised ValueError at", "shop.orders[", "1 cannot be judged: 4 events"):
        assert said in result.stdout
    right.send("Packed", "o-1", "id-5", "id-1")
    result = right.verify("--json", *COUNTED)
    report = json.loads(result.stdout)
    assert result.returncode == 1, "what is wrong is wrong whatever else cannot be judged"
    assert {one["invariant"] for one in report["violations"]} == {"order: is packed once", "shelf: never negative"}
    [unjudged] = report["unjudged"]
    assert (unjudged["invariant"], unjudged["key"], unjudged["evidence"][0]["id"]) == (
        "number: is small",
        "o-x",
        "id-3",
    )


def test_one_event_of_the_future_switches_nothing_off(right: Shop):
    right.send("Packed", "o-1", "id-3", "id-1")
    right.send("Ordered", "o-2", "id-4", time="2099-01-01T00:00:00Z")
    report = json.loads(right.verify("--json", *COUNTED).stdout)
    assert (report["under_way"], report["waiting"]) == (0, [])
    assert {(one["invariant"], one["sentence"]) for one in report["violations"]} == {
        ("order: is packed once", "it is packed 2 times"),
        ("order: is packed once", "it is not packed"),
    }
    right.send("Packed", "o-2", "id-5", "id-4")
    assert "1 more are packed than ordered" in right.verify(*COUNTED).stdout


def test_what_is_under_way_is_given_time(shop: Shop):
    shop.make_topics()
    shop.send("Ordered", "o-1", "id-1")
    assert shop.verify().returncode == 1
    patient = shop.verify("--grace", "600")
    assert patient.returncode == 0
    assert "1 of them under way" in patient.stdout
    waiting = shop.verify("--grace", "600", *COUNTED)
    assert waiting.returncode == 0
    assert "not judged: shelf: never negative. Run it again" in waiting.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--system", "verified_shop:bare"], {}, "names no invariants"),
        ([], {"MILLSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "No Kafka broker answers"),
        ([], {}, "None of the topics"),
        ([], {"MILLSTREAM_REGISTRY_URL": "http://127.0.0.1:1"}, "registry"),
    ],
    ids=["nothing declared", "no broker", "no topics", "no registry"],
)
def test_what_cannot_be_read_is_neither_right_nor_wrong(
    request: pytest.FixtureRequest, shop: Shop, arguments: list[str], env: dict[str, str], said: str
):
    if "MILLSTREAM_REGISTRY_URL" in env:
        request.getfixturevalue("right")
    result = shop.verify(*arguments, **env)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_it_follows_the_log_and_exports_what_it_finds(right: Shop, free_port: int):
    right.env["MILLSTREAM_HTTP"] = f"127.0.0.1:{free_port}"
    said = right.folder / "said.jsonl"

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in said.read_text().splitlines()]

    with said.open("w") as stdout:
        command = right.command("--follow", "--grace", "1", "--json")
        process = subprocess.Popen(command, cwd=right.folder, env=right.env, stdout=stdout)
    try:
        until(lambda: 'topic="shop.parcels"} 1.0' in metrics(free_port))
        right.send("Ordered", "o-2", "id-4")
        until(lambda: len(lines()) == 1)
        assert (lines()[0]["event"], lines()[0]["sentence"]) == ("violated", "it is not packed")
        sample = 'millstream_violations{invariant="order: is packed once",system="shop"}'
        assert f"{sample} 1.0" in metrics(free_port)
        right.send("Packed", "o-2", "id-5", "id-4")
        until(lambda: len(lines()) == 2)
        assert lines()[1]["event"] == "gone"
        assert f"{sample} 0.0" in metrics(free_port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_it_follows_on_though_an_invariant_is_broken(right: Shop, free_port: int):
    right.env["MILLSTREAM_HTTP"] = f"127.0.0.1:{free_port}"
    said = right.folder / "said.txt"
    with said.open("w") as stdout:
        command = right.command("--follow", "--grace", "4", *COUNTED)
        process = subprocess.Popen(command, cwd=right.folder, env=right.env, stdout=stdout)

    def sample(invariant: str, why: str) -> str:
        return f'millstream_unjudged{{invariant="{invariant}",reason="{why}",system="counted"}}'

    try:
        until(lambda: f"{sample('shelf: never negative', 'under_way')} 0.0" in metrics(free_port))
        right.send("Ordered", "o-x", "id-3")
        until(lambda: "unjudged number: is small: o-x: it raised ValueError" in said.read_text())
        until(lambda: f"{sample('number: is small', 'broken')} 1.0" in metrics(free_port))
        right.send("Packed", "o-x", "id-4", "id-3")
        right.send("Packed", "o-1", "id-5", "id-1", time="2099-01-01T00:00:00Z")
        until(lambda: f"{sample('shelf: never negative', 'under_way')} 1.0" in metrics(free_port))
        until(lambda: "violated shelf: never negative: parcels: 1 more" in said.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except httpx.HTTPError:
        return ""


def until(look: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, f"not within {within:g} s"
        time.sleep(0.05)  # between two looks
