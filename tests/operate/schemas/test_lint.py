"""`millstream schemas lint`: each remark names its place and its remedy, and what is allowed is not told."""

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.operate.schemas.lint import bad_command_name, bad_event_name

Millstream = Callable[..., subprocess.CompletedProcess[str]]

SAD = '''
    """An orders.sad in a docstring is no literal."""
    from millstream import FOREVER, Command, Event, Service, System, Topic, Value, days
    from millstream.patterns.view import View

    class CreateOrder(Event, key="order_id"):
        order_id: str

    class OrderCancelled(Command, key="order_id"):
        order_id: str

    class Noted(Event, key="event_id"):
        event_id: str

    class Row(Value):
        order_id: str

    orders = Topic("orders.sad", CreateOrder, partitions=100)
    commands = Topic("orders.sad-commands", OrderCancelled)
    notes = Topic("orders.sad-notes", Noted, retention=FOREVER)
    view = View("orders", Row, topic="orders.sad-rows")

    @view.on(CreateOrder)
    def created(event: CreateOrder, row: Row | None) -> Row:
        return Row(order_id=event.order_id)

    reading = Service("reading", publishes=[OrderCancelled, Noted])
    view.mount(reading)
    system = System("sad", ["sad:reading"])

    def tool():
        print("orders.sad", "orders.sad.dlq", f"orders.sad")
'''


@pytest.fixture
def sad(shop: Path) -> Path:
    """A folder with a system of which everything can be said."""
    (shop / "sad.py").write_text(textwrap.dedent(SAD))
    (shop / "pyproject.toml").write_text('[tool.millstream]\nsystem = "sad:system"\n')
    return shop


def test_each_remark_names_place_and_remedy(millstream: Millstream, sad: Path):
    linted = millstream("schemas", "lint", "--json")
    assert linted.returncode == 1
    found = {(remark["rule"], remark["place"]): remark for remark in json.loads(linted.stdout)}
    line = next(n for n, text in enumerate((sad / "sad.py").read_text().splitlines(), 1) if "print(" in text)
    assert sorted(found) == [
        ("keys", "orders.sad-notes.Noted"),
        ("literals", f"sad.py:{line}"),
        ("names", "orders.sad-commands.OrderCancelled"),
        ("names", "orders.sad.CreateOrder"),
        ("partitions", "orders.sad"),
        ("retention", "orders.sad"),
    ]
    assert "as in OrderCreated" in found["names", "orders.sad.CreateOrder"]["remedy"]
    assert "retention=FOREVER" in found["retention", "orders.sad"]["remedy"]
    assert "reading.created" in found["retention", "orders.sad"]["problem"]
    said = millstream("schemas", "lint").stdout
    assert said.count("literals: ") == 3
    assert "→ use the declaration's .dead_letters instead" in said
    assert "sad: 8 remarks" in said


def test_what_is_allowed_is_not_told(millstream: Millstream, sad: Path):
    allow = ["names:CreateOrder", "names:*.OrderCancelled", "literals:sad.py", "keys:*", "retention:orders.sad"]
    with (sad / "pyproject.toml").open("a") as file:
        file.write(f"[tool.millstream.lint]\nallow = {json.dumps(allow)}\npartitions_of_topic = 100\n")
    linted = millstream("schemas", "lint")
    assert (linted.returncode, linted.stdout) == (0, "sad: 0 remarks\n")
    with (sad / "pyproject.toml").open("a") as file:
        file.write("partitions_of_system = 10\nnonsense = 1\n")
    assert "it takes allow, partitions_of_topic" in millstream("schemas", "lint").stderr


def test_all_partitions_together_have_a_bound(millstream: Millstream, sad: Path):
    with (sad / "pyproject.toml").open("a") as file:
        file.write("[tool.millstream.lint]\npartitions_of_system = 10\n")
    said = millstream("schemas", "lint").stdout
    # The topic, its dead letters, the read model, what is parked and redriven, and the two that are only written.
    assert "the system\n  partitions: 512 partitions on 7 topics, and the bound is 10" in said


@pytest.mark.parametrize("system", ["orders.system:system", "temperature.system:system"])
def test_our_own_systems_have_nothing_to_regret(millstream: Millstream, system: str):
    linted = millstream("schemas", "lint", "--system", system)
    assert linted.returncode == 0, linted.stdout + linted.stderr


FACTS = "OrderPlaced ParcelSent InvoicePaid GoodsSold StockReserved MailDue Temperature ReadingTaken UserSignedUp"
REQUESTS = "PlaceOrder SendParcel PayInvoice MarkOrderPaid ReserveStock Handle RequestReturn CloseUnusedAccounts"


@pytest.mark.parametrize("name", FACTS.split())
def test_a_fact_is_a_good_name_for_an_event(name: str):
    assert not bad_event_name(name)


@pytest.mark.parametrize("name", REQUESTS.split())
def test_a_request_is_a_good_name_for_a_command(name: str):
    assert not bad_command_name(name)


@pytest.mark.parametrize("name", ["OrderCreate", "UpdatePrice", "ParcelSend"])
def test_a_request_is_a_bad_name_for_an_event(name: str):
    assert bad_event_name(name)


@pytest.mark.parametrize("name", ["OrderPlaced", "ParcelSent", "InvoicePaid"])
def test_a_fact_is_a_bad_name_for_a_command(name: str):
    assert bad_command_name(name)
