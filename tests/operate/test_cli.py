"""The commands, as people and programs call them."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream.contracts import Contracts, Registry
from millstream.kafka import TopicSpec, connect
from millstream.operate.cli.help import SHIPPED, pages_by_topic
from millstream.settings import Settings
from millstream.testing.local import LocalKafka

Millstream = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(kafka: LocalKafka) -> dict[str, str]:
    """The environment that names the broker."""
    return {"MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLSTREAM_REGISTRY_URL": kafka.registry}


@pytest.fixture
def records(kafka: LocalKafka) -> None:
    """Two records on shop.orders: an event, and garbage."""
    from millstream import Event, Topic

    class Ordered(Event, key="order_id", namespace="shop"):
        order_id: str
        what: str

    Topic("shop.orders", Ordered, partitions=1)
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin = cluster.admin()
    admin.ensure_topics([TopicSpec("shop.orders", 1)])
    admin.close()
    contracts = Contracts(Registry(kafka.registry))
    producer = cluster.producer()
    value = contracts.encode(Ordered(order_id="o-1", what="a book")) if contracts.register([Ordered]) is None else b""
    producer.produce("shop.orders", value, b"o-1", [("ce_type", b"shop.Ordered"), ("ce_id", b"id-1")])
    producer.produce("shop.orders", b"\x00\x01", b"\xff")
    producer.flush()
    producer.close()


@pytest.mark.parametrize(
    "command", ["up", "run", "logs", "broker", "topics", "lag", "tail", "config", "simulate", "verify", "help"]
)
def test_every_command_explains_itself_with_examples(millstream: Millstream, command: str):
    helped = millstream(command, "--help")
    assert helped.returncode == 0
    assert f"millstream {command}" in helped.stdout.split("Examples:")[1]
    assert "Exit codes" in helped.stdout
    assert "\x1b" not in helped.stdout


def test_config_says_where_each_setting_comes_from_and_keeps_secrets(millstream: Millstream):
    shown = millstream("config", "--json", MILLSTREAM_SASL_PASSWORD="hunter2", MILLSTREAM_SLOT="3")
    settings = {setting["variable"]: setting for setting in json.loads(shown.stdout)}
    assert (settings["MILLSTREAM_SLOT"]["value"], settings["MILLSTREAM_SLOT"]["source"]) == ("3", "environment")
    assert settings["MILLSTREAM_COMMIT_INTERVAL_MS"]["source"] == "default"
    assert settings["MILLSTREAM_SASL_PASSWORD"]["source"] == "environment"
    assert "hunter2" not in shown.stdout
    changed = millstream("config", "--changed", MILLSTREAM_SLOT="3").stdout
    assert "MILLSTREAM_SLOT" in changed
    assert "MILLSTREAM_LOG" not in changed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nobody"], "it has desk, packing, idle"),
        (["topics", "--system", "nowhere:system"], "nowhere"),
        (["config", "--nonsense"], "No such option"),
        (["up", "--registry", "http://127.0.0.1:1"], "--bootstrap-servers"),
        (["up", "--with", "nobody", "--port", "0", "--kafka-port", "0", "--registry-port", "0"], "idle"),
    ],
)
def test_wrong_usage_is_told_in_a_line(millstream: Millstream, arguments: list[str], said: str):
    result = millstream(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_system_the_remedy_is_told(millstream: Millstream, shop: Path):
    (shop / "pyproject.toml").write_text("")
    result = millstream("topics")
    assert result.returncode == 2
    assert "[tool.millstream]" in result.stderr


@pytest.mark.slow
def test_topics_and_lag(millstream: Millstream, told: dict[str, str], records: None, shop: Path):
    listed = {row["topic"]: row for row in json.loads(millstream("topics", "--json", **told).stdout)}
    assert listed["shop.orders"]["exists"]
    assert (listed["shop.orders"]["written_by"], listed["shop.orders"]["read_by"]) == (["desk"], ["packing"])
    assert listed["shop.orders"]["carries"] == ["Ordered"]
    assert not listed["shop.parcels"]["exists"]
    assert "missing" in millstream("topics", **told).stdout
    behind = json.loads(millstream("lag", "--json", **told).stdout)
    assert [(row["group"], row["topic"], row["lag"]) for row in behind] == [("packing.kafka", "shop.orders", 2)]
    assert "packing.kafka" in millstream("lag", "--partitions", **told).stdout
    text = (shop / "shop.py").read_text()
    (shop / "other.py").write_text(text.replace("shop.orders", "other.orders").replace('"shop:', '"other:'))
    other = millstream("lag", "--system", "other:whole", **told)
    assert other.returncode == 2
    assert "None of the topics that whole reads is on" in other.stderr


def test_tail_decodes_and_shows_what_nobody_can_read(millstream: Millstream, told: dict[str, str], records: None):
    lines = millstream("tail", "shop.orders", "--from-beginning", "--max", "2", "--json", **told).stdout.splitlines()
    event, garbage = (json.loads(line) for line in lines)
    assert event["value"] == {"order_id": "o-1", "what": "a book"}
    assert (event["type"], event["id"], event["key"]) == ("shop.Ordered", "id-1", "o-1")
    assert (garbage["hex"], garbage["bytes"]) == ("0001", 2)
    said = millstream("tail", "shop.orders", "--no-follow", **told).stdout
    assert "shop.orders[0]@0 o-1 shop.Ordered" in said
    assert '"what": "a book"' in said


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["topics"], ["lag"], ["tail", "no.such.topic", "--no-follow"]])
def test_without_a_broker_or_topic_it_fails_in_a_line(
    millstream: Millstream, arguments: list[str], told: dict[str, Any]
):
    if arguments[0] != "tail":
        told["MILLSTREAM_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    result = millstream(*arguments, **told)
    assert result.returncode == (2 if arguments[0] == "tail" else 1)
    assert result.stderr.startswith("millstream: ")
    assert "Traceback" not in result.stderr


def test_pages_of_the_documentation_come_with_the_package(millstream: Millstream):
    listed = millstream("help").stdout
    assert "verify" in listed
    assert "Is everything consistent?" in listed
    assert millstream("help", "verify").stdout.startswith("# Is everything consistent?")
    wrong = millstream("help", "verfy")
    assert wrong.returncode == 2
    assert "did you mean verify?" in wrong.stderr
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert packed["force-include"] == {"docs": str(SHIPPED.relative_to(ROOT / "src"))}


def test_every_page_that_a_message_names_is_there():
    named = {
        found
        for file in (ROOT / "src").rglob("*.py")
        for found in re.findall(r"`millstream help ([a-z-]+)`", file.read_text())
    }
    assert named
    assert named <= pages_by_topic().keys()


@pytest.mark.slow
def test_what_is_empty_says_so(millstream: Millstream, told: dict[str, str], kafka: LocalKafka):
    admin = connect(Settings(bootstrap_servers=kafka.bootstrap)).admin()
    admin.ensure_topics([TopicSpec("shop.orders", 2), TopicSpec("shop.orders.dlq", 2)])
    admin.close()
    letters = millstream("dlq", "list", **told)
    assert (letters.returncode, letters.stdout) == (0, "")
    assert letters.stderr.startswith("No dead letter waits.\n--state all")
    assert "No such dead letter." in millstream("dlq", "list", "--key", "o-1", **told).stderr
    assert millstream("tail", "shop.orders", "--no-follow", **told).stderr == "shop.orders has no records.\n"
    default = millstream("config", "--changed", MILLSTREAM_BOOTSTRAP_SERVER="x")
    assert "Every setting has its default." in default.stderr
    assert "did you mean MILLSTREAM_BOOTSTRAP_SERVERS?" in default.stderr


def test_an_error_in_the_code_of_the_system_is_its_own_line_and_no_traceback_of_ours(
    millstream: Millstream, shop: Path
):
    (shop / "shop.py").write_text("from millstream import System\nsystem = Systm('shop', [])\n")
    for command in (("topics",), ("run", "desk"), ("lag",)):
        result = millstream(*command)
        assert result.returncode == 2
        assert result.stderr.splitlines() == [
            "millstream: 'shop:system' cannot be imported: NameError: name 'Systm' is not defined",
            f"  {shop}/shop.py:2",
            "    system = Systm('shop', [])",
        ]
