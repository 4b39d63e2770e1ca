"""Schemas that borrow types from others.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#schema-references
"""

import json
from typing import Any

import httpx
import pytest
from tests.local.registry.talk import ONE, record, reference, refusal, register, registered

MONEY = record(("amount", "long"), name="Money", namespace="shop")
LINE = record(("price", "shop.Money"), name="Line", namespace="shop")
ORDER = record(("total", "shop.Money"), ("line", "shop.Line"), name="Order", namespace="shop")
TO_MONEY = [reference("shop.Money", "money", 1)]
TO_BOTH = [reference("shop.Line", "line", 1), reference("shop.Money", "money", 1)]


@pytest.fixture
def shop(registry: httpx.Client) -> httpx.Client:
    registered(registry, "money", MONEY)
    registered(registry, "line", LINE, references=TO_MONEY)
    registered(registry, "order", ORDER, references=TO_BOTH)
    return registry


def test_a_schema_may_borrow_types_and_says_from_where(shop: httpx.Client) -> None:
    version = shop.get("/subjects/order/versions/1").json()
    assert version["references"] == TO_BOTH
    assert json.loads(version["schema"])["fields"][0] == {"name": "total", "type": "Money"}
    assert shop.get(f"/schemas/ids/{version['id']}").json()["references"] == TO_BOTH
    assert shop.post("/subjects/order", json={"schema": ORDER, "references": TO_BOTH}).json() == version


def test_a_resolved_schema_stands_alone(shop: httpx.Client) -> None:
    found = shop.get("/subjects/order/versions/1?format=resolved").json()
    first, second = json.loads(found["schema"])["fields"]
    assert first["type"]["fields"] == [{"name": "amount", "type": "long"}]
    assert second["type"]["fields"] == [{"name": "price", "type": "Money"}]
    by_id = shop.get(f"/schemas/ids/{found['id']}?format=resolved").json()["schema"]
    assert by_id == found["schema"] == shop.get("/subjects/order/versions/1/schema?format=resolved").text


def test_a_schema_sent_with_its_references_spelled_out_is_the_one_that_refers(shop: httpx.Client) -> None:
    """Confluent's serializers with `use.latest.version` off send what the writer's class holds: everything."""
    whole = shop.get("/subjects/order/versions/1?format=resolved").json()["schema"]
    assert shop.post("/subjects/order", json={"schema": whole}).json()["version"] == 1
    assert registered(shop, "order", whole) == shop.get("/subjects/order/versions/1").json()["id"]


def test_who_refers_to_a_version_is_told_by_ids(shop: httpx.Client) -> None:
    line, order = (shop.get(f"/subjects/{name}/versions/1").json()["id"] for name in ("line", "order"))
    assert shop.get("/subjects/money/versions/1/referencedby").json() == [line, order]
    assert shop.get("/subjects/money/versions/latest/referencedby?offset=1&limit=1").json() == [order]
    assert shop.get("/subjects/order/versions/1/referencedby").json() == []
    shop.delete("/subjects/order")
    assert shop.get("/subjects/money/versions/1/referencedby").json() == [line]
    assert shop.get("/subjects/money/versions/1/referencedby?deleted=true").json() == [line, order]


def test_what_is_referred_to_stays(shop: httpx.Client) -> None:
    """Error 42206 of the API; a soft-deleted referrer still holds back a permanent delete."""
    assert refusal(shop.delete("/subjects/money")) == (422, 42206)
    assert refusal(shop.delete("/subjects/money/versions/1")) == (422, 42206)
    shop.delete("/subjects/order").raise_for_status()
    shop.delete("/subjects/line").raise_for_status()
    shop.delete("/subjects/money").raise_for_status()
    assert refusal(shop.delete("/subjects/money?permanent=true")) == (422, 42206)
    assert refusal(shop.delete("/subjects/money/versions/1?permanent=true")) == (422, 42206)
    for name in ("order", "line", "money"):
        assert shop.delete(f"/subjects/{name}?permanent=true").json() == [1]


def test_a_subject_may_refer_to_itself_and_still_be_deleted(registry: httpx.Client) -> None:
    registry.put("/config/s", json={"compatibility": "NONE"})
    registered(registry, "s", MONEY)
    registered(registry, "s", LINE, references=[reference("shop.Money", "s", 1)])
    assert refusal(registry.delete("/subjects/s/versions/1")) == (422, 42206)
    assert registry.delete("/subjects/s").json() == [1, 2]
    assert registry.delete("/subjects/s?permanent=true").json() == [1, 2]


@pytest.mark.parametrize(
    "references",
    [
        [],
        [reference("shop.Money", "nobody", 1)],
        [reference("shop.Money", "money", 2)],
        [reference("shop.Money", "money", 0)],
        [reference("shop.Money", "other", 1)],
    ],
    ids=["none", "no such subject", "no such version", "no version", "another type"],
)
def test_a_reference_that_leads_nowhere_is_an_invalid_schema(registry: httpx.Client, references: Any) -> None:
    registered(registry, "money", MONEY)
    registered(registry, "other", ONE)
    assert refusal(register(registry, "line", LINE, references=references)) == (422, 42201)


def test_a_new_schema_may_not_refer_to_what_is_soft_deleted(registry: httpx.Client) -> None:
    registered(registry, "money", MONEY)
    registry.delete("/subjects/money")
    assert refusal(register(registry, "line", LINE, references=TO_MONEY)) == (422, 42201)


def test_the_latest_version_as_a_reference_is_stored_by_its_number(registry: httpx.Client) -> None:
    registered(registry, "money", MONEY)
    registered(registry, "line", LINE, references=[reference("shop.Money", "money", -1)])
    assert registry.get("/subjects/line/versions/1").json()["references"] == TO_MONEY


def test_the_same_text_with_other_references_is_another_schema(registry: httpx.Client) -> None:
    registered(registry, "money", MONEY)
    registered(registry, "money", record(("amount", "long"), ("of", "string", "EUR"), name="Money", namespace="shop"))
    one = registered(registry, "line", LINE, references=[reference("shop.Money", "money", 1)])
    two = registered(registry, "line", LINE, references=[reference("shop.Money", "money", 2)])
    assert two == one + 1
    guids = {registry.get(f"/schemas/ids/{i}").json()["guid"] for i in (one, two)}
    assert len(guids) == 2


def test_compatibility_looks_into_what_is_borrowed(registry: httpx.Client) -> None:
    registered(registry, "money", MONEY)
    registered(registry, "line", LINE, references=TO_MONEY)
    registry.put("/config/money", json={"compatibility": "NONE"})
    registered(registry, "money", record(("amount", "string"), name="Money", namespace="shop"))
    answer = registry.post(
        "/compatibility/subjects/line/versions/latest?verbose=true",
        json={"schema": LINE, "references": [reference("shop.Money", "money", 2)]},
    ).json()
    assert answer["is_compatible"] is False
    assert "/fields/0/type/fields/0/type" in answer["messages"][0]


def test_a_type_may_not_be_defined_again(registry: httpx.Client) -> None:
    registered(registry, "money", MONEY)
    again = record(("m", json.loads(MONEY)), name="Line", namespace="shop")
    assert refusal(register(registry, "line", again, references=TO_MONEY)) == (422, 42201)


def test_references_that_meet_again_and_again_are_read_once(registry: httpx.Client) -> None:
    """Every level refers to the one below twice: two to the power of forty ways lead to the lowest."""
    registered(registry, "l0", record(name="L0"))
    for i in range(1, 41):
        below = [reference(f"L{i - 1}", f"l{i - 1}", 1), reference("again", f"l{i - 1}", 1)]
        registered(registry, f"l{i}", record(("a", f"L{i - 1}"), ("b", f"L{i - 1}"), name=f"L{i}"), references=below)
    assert registry.get("/subjects/l0/versions/1/referencedby").json() == [2]


def test_references_to_more_than_can_be_read_are_refused(registry: httpx.Client) -> None:
    registry.put("/config", json={"compatibility": "NONE"})
    big = [registered(registry, f"b{i}", record(name=f"B{i}", doc="x" * 900_000)) for i in range(5)]
    assert len(big) == 5
    references = [reference(f"B{i}", f"b{i}", 1) for i in range(5)]
    assert refusal(register(registry, "all", '"B0"', references=references)) == (422, 42209)
