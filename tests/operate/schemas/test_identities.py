"""What no schema says is held against the lock file, too: keys, services, groups, handlers and stores."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from millstream import System
from millstream.declare import load
from millstream.errors import ConfigurationError
from millstream.operate.schemas.gate import Report, compare
from millstream.operate.schemas.history import RegistryHistory
from millstream.operate.schemas.lock import Lock

Millstream = Callable[..., subprocess.CompletedProcess[str]]

GARAGE = """
from datetime import timedelta
from typing import Annotated
from millstream import *

class Parked(Event, key="ticket"):
    ticket: str
    garage: str

class Left(Event, key="ticket"):
    ticket: str

class Charge(Command, key="ticket"):
    ticket: str

class Seen(Value):
    count: int

parked = Topic("garage.parked", Parked, Left, partitions=2)
charges = Topic("garage.charges", Charge, partitions=2, format="json")
SEEN = Store("seen", Seen)

gate = Service("gate")
till = Service("till")

@gate.on(Parked)
def count(event: Parked, seen: Annotated[State[Seen], SEEN]) -> Charge:
    return Charge(ticket=event.ticket)

@gate.on(Left)
def forget(event: Left) -> None: ...

@till.effect(Charge)
async def charge(command: Charge) -> None: ...

system = System("garage", ["garage:gate", "garage:till"])
"""


Compared = Callable[..., Report]


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    """Empty at first."""
    return Lock(tmp_path / "schemas.lock.json")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, lock: Lock) -> Compared:
    """`compared((old, new), …)`: the changed system held against the lock."""

    def changed(*pairs: tuple[str, str]) -> Report:
        text = GARAGE
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        module = ModuleType("garage")
        monkeypatch.setitem(sys.modules, "garage", module)
        exec(text, vars(module))
        return compare(vars(module)["system"], lock)

    record(lock, changed())
    assert not (again := changed()).breaking
    assert not again.has_new_identities
    return changed


def record(lock: Lock, report: Report) -> None:
    """As `millstream schemas lock` does."""
    for verdict in report.unrecorded:
        lock.add(verdict.declared)
    for subject in report.gone:
        lock.forget(subject)
    lock.set_identities(report.identities)
    lock.write()


@pytest.mark.parametrize(
    ("changes", "rule", "place", "breaks", "remedy"),
    [
        (
            [('Parked(Event, key="ticket")', 'Parked(Event, key="garage")')],
            "KEY_CHANGED",
            ("garage.parked", "garage.Parked"),
            "its key was 'ticket' and is 'garage' now: new events go to other partitions",
            'keep key="ticket"',
        ),
        (
            [
                ('Charge(Command, key="ticket"):\n    ticket: str', 'Charge(Command, key="of"):\n    of: str'),
                ("Charge(ticket=", "Charge(of="),
            ],
            "KEY_CHANGED",
            ("garage.charges", "garage.Charge"),
            "its key was 'ticket' and is 'of' now",
            'Alias("ticket")',
        ),
        (
            [("till = Service", "desk = Service"), ('"till"', '"desk"'), ("@till", "@desk"), (":till", ":desk")],
            "SERVICE_RENAMED",
            ("", "service till"),
            "its groups (till.effect) have no offsets under the new name",
            'keep the name: Service("till")',
        ),
        (
            [('Service("till")', 'Service("till", group="tills")')],
            "GROUP_CHANGED",
            ("", "till, effect handlers"),
            "their consumer group was 'till.effect' and is 'tills' now, which has no offsets",
            'Service("till", group="till.effect")',
        ),
        (
            [("def count(", "def count_parked(")],
            "HANDLER_RENAMED",
            ("", "gate.count"),
            "it is 'count_parked' now, and the ids of its events",
            "keep the name: `def count(…)`",
        ),
        (
            [("async def charge(", "async def collect(")],
            "HANDLER_RENAMED",
            ("", "till.charge"),
            "the keys of its outside calls",
            "keep the name: `def charge(…)`",
        ),
        (
            [('Store("seen", Seen)', 'Store("seen", Seen, topic="garage.seen")')],
            "STORE_MOVED",
            ("gate.seen.changelog", "gate, store seen"),
            "its changelog is garage.seen now, which is empty",
            'topic="gate.seen.changelog"',
        ),
        (
            [('Store("seen", Seen)', 'Store("counted", Seen)')],
            "STORE_MOVED",
            ("gate.seen.changelog", "gate, store seen"),
            "its changelog is gate.counted.changelog now",
            'topic="gate.seen.changelog"',
        ),
        (
            [("@till.effect(Charge)\nasync def charge", "@till.on(Charge)\ndef charge")],
            "HANDLER_MOVED",
            ("", "till.charge"),
            "another consumer group reads for it, 'till.kafka'",
            "keep its kind",
        ),
        (
            [("partitions=2, format", "partitions=4, format")],
            "PARTITIONS_CHANGED",
            ("garage.charges", "garage.Charge"),
            "had 2 partitions and is declared with 4",
            "keep partitions=2",
        ),
        (
            [('"garage.charges"', '"till.charges"')],
            "TOPIC_CHANGED",
            ("garage.charges", "garage.Charge"),
            "nothing in this system reads what is left on garage.charges",
            'keep Topic("garage.charges", …)',
        ),
    ],
    ids=lambda case: case if isinstance(case, str) and case.isupper() else "",
)
def test_a_change_that_no_schema_shows_is_found_with_what_it_breaks_and_the_remedy(
    compared: Compared,
    lock: Lock,
    changes: list[tuple[str, str]],
    rule: str,
    place: tuple[str, str],
    breaks: str,
    remedy: str,
):
    report = compared(*changes)
    [found] = [finding for finding in report.breaking if finding.rule != "READER_FIELD_MISSING_DEFAULT_VALUE"]
    assert (found.rule, (found.topic, found.contract)) == (rule, place)
    assert breaks in found.problem
    assert remedy in found.remedy
    assert f"\n  {rule}: " in str(found)
    record(lock, report)  # accepted
    kept = Lock.read(lock.path)
    again = compare(load("garage:system", System), kept)
    assert (again.breaking, again.has_new_identities) == ([], False)


@pytest.mark.parametrize(
    "changes",
    [
        [
            (
                'class Parked(Event, key="ticket"):\n    ticket: str',
                "class Parked(Event, key=\"slip\"):\n    slip: Annotated[str, Alias('ticket')]",
            ),
            ("event.ticket", "event.slip"),
        ],
        [("def forget(", "def ignore(")],
        [("class Seen", "class Unused(Value):\n    n: int\n\nclass Seen")],
        [
            ('till = Service("till")', 'till = Service("till")\nnew = Service("new")'),
            ('"garage:till"]', '"garage:till", "garage:new"]'),
        ],
    ],
    ids=["a key under a new name", "a handler that makes nothing", "a value", "one more service"],
)
def test_a_change_that_breaks_nothing_passes_and_can_be_recorded(compared: Compared, changes: list[tuple[str, str]]):
    assert compared(*changes).breaking == []


def test_a_store_that_is_given_up_is_a_class_that_is_gone(compared: Compared):
    [gone] = compared((", seen: Annotated[State[Seen], SEEN]", "")).breaking
    assert (gone.rule, gone.topic) == ("CLASS_GONE", "gate.seen.changelog")


@pytest.mark.slow
def test_the_commands_show_it_refuse_to_record_it_and_record_it_where_it_is_accepted(
    shop: Path, millstream: Millstream
):
    assert millstream("schemas", "lock").returncode == 0
    file = shop / "schemas.lock.json"
    before = file.read_text()
    (shop / "shop.py").write_text((shop / "shop.py").read_text().replace("def pack(", "def wrap("))
    checked = millstream("schemas", "check")
    assert checked.returncode == 1
    assert "packing.pack\n  HANDLER_RENAMED: it is 'wrap' now" in checked.stdout
    assert "→ keep the name: `def pack(…)`" in checked.stdout
    assert "HANDLER_RENAMED" in millstream("schemas", "diff").stdout
    assert millstream("schemas", "lock").returncode == 1
    assert file.read_text() == before
    assert millstream("schemas", "lock", "--accept-breaking").returncode == 0
    assert millstream("schemas", "check", "--locked").returncode == 0


@pytest.mark.slow
def test_a_lock_file_from_before_is_read_and_says_what_it_lacks(shop: Path, millstream: Millstream):
    millstream("schemas", "lock")
    file = shop / "schemas.lock.json"
    content = json.loads(file.read_text())
    del content["identities"]
    file.write_text(json.dumps(content))
    checked = millstream("schemas", "check")
    assert checked.returncode == 0
    assert "`millstream schemas lock` records them" in checked.stdout
    assert millstream("schemas", "check", "--locked").returncode == 1
    assert millstream("schemas", "lock").returncode == 0
    assert "identities" in json.loads(file.read_text())


def test_a_registry_knows_no_keys_so_the_lock_file_beside_is_asked(compared: Compared, lock: Lock):
    report = compared(("def count(", "def count_parked("))
    registry = RegistryHistory("http://127.0.0.1:1")
    for beside, rules in ((lock, ["HANDLER_RENAMED"]), (None, [])):
        held = Report(registry, report.verdicts, (), report.identities, beside and beside.identities)
        assert [finding.rule for finding in held.breaking] == rules
        assert held.has_new_identities


def test_what_is_recorded_is_sorted_and_reads_back(compared: Compared, lock: Lock):
    assert Lock.read(lock.path).text() == lock.path.read_text()
    recorded = json.loads(lock.text())["identities"]
    assert recorded["classes"]["garage.Parked"] == {
        "topic": "garage.parked",
        "key": "ticket",
        "partitions": 2,
        "format": "avro",
        "former_keys": [],
    }
    assert recorded["services"]["gate"]["groups"] == {"kafka": "gate.kafka"}
    assert list(recorded["services"]["gate"]["handlers"]) == ["count", "forget"]
    broken = json.loads(lock.text())
    broken["identities"]["services"] = []
    lock.path.write_text(json.dumps(broken))
    with pytest.raises(ConfigurationError, match="is no lock file of schemas"):
        Lock.read(lock.path)
