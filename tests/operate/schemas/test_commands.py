"""`millstream schemas check`, `diff`, `lock`, `register` and `show`, as people and pipelines call them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

Millstream = Callable[..., subprocess.CompletedProcess[str]]


def change(shop: Path, old: str, new: str) -> None:
    """Edits the code of the shop."""
    file = shop / "shop.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.parametrize("command", ["check", "diff", "lock", "register", "show"])
def test_every_command_explains_itself_with_examples(millstream: Millstream, command: str):
    helped = millstream("schemas", command, "--help")
    assert helped.returncode == 0
    assert f"millstream schemas {command}" in helped.stdout.split("Examples:")[1]
    assert "Exit codes: 0 fine, 1 something was found" in helped.stdout
    assert "\x1b" not in helped.stdout


def test_a_breaking_change_is_refused_until_it_is_accepted(millstream: Millstream, shop: Path):
    assert "2 recorded" in millstream("schemas", "lock").stdout
    assert millstream("schemas", "check").returncode == 0
    change(shop, "what: str", "what: str\n    size: int")
    checked = millstream("schemas", "check")
    assert checked.returncode == 1
    assert "shop.orders  shop.Ordered.size" in checked.stdout
    assert "→ give it a default" in checked.stdout
    before = (shop / "schemas.lock.json").read_text()
    refused = millstream("schemas", "lock")
    assert refused.returncode == 1
    assert "is as it was: 1 breaking change" in refused.stderr
    assert (shop / "schemas.lock.json").read_text() == before
    (finding,) = json.loads(millstream("schemas", "check", "--json").stdout)["breaking"]
    assert (finding["field"], finding["rule"]) == ("size", "READER_FIELD_MISSING_DEFAULT_VALUE")
    assert millstream("schemas", "lock", "--accept-breaking").returncode == 0
    assert millstream("schemas", "check", "--locked").returncode == 0
    kept = json.loads((shop / "schemas.lock.json").read_text())["subjects"]["shop.orders-shop.Ordered"]
    assert [version["version"] for version in kept["versions"]] == [1, 2]


def test_a_safe_change_passes_and_locked_asks_to_record_it(millstream: Millstream, shop: Path):
    millstream("schemas", "lock")
    change(shop, "what: str", "what: str\n    size: int = 1")
    assert millstream("schemas", "check").returncode == 0
    locked = millstream("schemas", "check", "--locked")
    assert locked.returncode == 1
    assert "Run `millstream schemas lock`" in locked.stdout
    assert "+ size: long, default 1" in millstream("schemas", "diff").stdout
    assert millstream("schemas", "lock").returncode == 0
    assert millstream("schemas", "check", "--locked").returncode == 0


def test_the_lock_file_is_the_same_for_the_same_code_and_changes_by_lines(millstream: Millstream, shop: Path):
    millstream("schemas", "lock")
    first = (shop / "schemas.lock.json").read_text()
    millstream("schemas", "lock", "--lock", "again.json")
    assert (shop / "again.json").read_text() == first
    assert list(json.loads(first)["subjects"]) == sorted(json.loads(first)["subjects"])
    assert millstream("schemas", "lock", "--compatibility", "FULL").returncode == 0
    second = (shop / "schemas.lock.json").read_text()
    assert len(set(first.splitlines()) ^ set(second.splitlines())) == 2


def test_a_class_that_is_gone_breaks_who_reads_its_records(millstream: Millstream, shop: Path):
    millstream("schemas", "lock")
    change(shop, "class Packed(Event", "class Wrapped(Event")
    text = (shop / "shop.py").read_text()
    (shop / "shop.py").write_text(text.replace("Packed", "Wrapped"))
    checked = millstream("schemas", "check")
    assert checked.returncode == 1
    assert "shop.Packed\n  CLASS_GONE" in checked.stdout
    assert "keep the class as long as its topic has such records" in checked.stdout
    assert "1 dropped" in millstream("schemas", "lock", "--accept-breaking").stdout


def test_with_a_registry_the_same_verdicts(millstream: Millstream, shop: Path, shared_kafka: LocalKafka):
    change(shop, '"shop.orders"', '"gate.orders"')
    registry = ("--registry", shared_kafka.registry)
    assert "2 new" in millstream("schemas", "check", *registry).stdout
    assert len(json.loads(millstream("schemas", "register", *registry, "--json").stdout)) == 2
    assert "2 unchanged" in millstream("schemas", "check", MILLSTREAM_REGISTRY_URL=shared_kafka.registry).stdout
    change(shop, "what: str", "what: int")
    checked = millstream("schemas", "check", *registry)
    assert checked.returncode == 1
    assert "gate.orders  shop.Ordered.what\n  TYPE_MISMATCH (BACKWARD, against version 1)" in checked.stdout
    assert "→ leave what as it was and add a new field instead" in checked.stdout
    refused = millstream("schemas", "register", *registry)
    assert refused.returncode == 1
    assert "Nothing was registered" in refused.stderr
    diff = millstream("schemas", "diff", *registry)
    assert diff.returncode == 0
    assert (
        "gate.orders  shop.Ordered  changed, breaking\n  ~ what: string, no default → long, no default" in diff.stdout
    )


def test_show_prints_the_schema_of_a_class_in_each_format(millstream: Millstream):
    assert json.loads(millstream("schemas", "show", "Ordered").stdout)["name"] == "Ordered"
    assert "properties" in json.loads(millstream("schemas", "show", "shop.Ordered", "--format", "json_schema").stdout)
    assert "message Ordered {" in millstream("schemas", "show", "Ordered", "--format", "protobuf").stdout


@pytest.mark.parametrize("format", ["json", "cloudevents"])
def test_show_describes_in_json_what_travels_in_json(millstream: Millstream, shop: Path, format: str):
    change(shop, 'Topic("shop.orders", Ordered', f'Topic("shop.orders", Ordered, format="{format}"')
    assert "what" in json.loads(millstream("schemas", "show", "Ordered").stdout)["properties"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "millstream schemas lock"),
        (["check", "--lock", "nowhere.json"], "millstream schemas lock"),
        (["check", "--lock", "broken.json"], "is no JSON"),
        (["check", "--lock", "other.json"], "is no lock file of schemas"),
        (["check", "--lock", "other.json", "--registry", "http://127.0.0.1:1"], "give one of them"),
        (["lock", "--compatibility", "SIDEWAYS"], "BACKWARD_TRANSITIVE"),
        (["show", "Nobody"], "it has Ordered, Packed"),
        (["show", "Ordered", "--format", "xml"], "json_schema"),
    ],
)
def test_wrong_usage_is_told_with_its_remedy(millstream: Millstream, shop: Path, arguments: list[str], said: str):
    (shop / "broken.json").write_text("{<<<<")
    (shop / "other.json").write_text("[]")
    result = millstream("schemas", *arguments)
    assert result.returncode == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
