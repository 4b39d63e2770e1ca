"""What customers do, over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from tests.end_to_end.running import eventually


def stock(url: str, products: Mapping[str, int]) -> None:
    """Brings goods into the warehouse and waits until they can be ordered."""
    deliveries = [{"product": name, "name": name, "quantity": quantity} for name, quantity in products.items()]
    httpx.put(f"{url}/products", json={"products": deliveries}, timeout=10).raise_for_status()

    def known() -> bool:
        found = httpx.get(f"{url}/products", params={"limit": 5_000}, timeout=5).raise_for_status().json()["products"]
        return products.keys() <= {product["product"] for product in found}

    eventually(known)


def order(lines: Sequence[tuple[str, int, str]], **more: Any) -> dict[str, Any]:
    """The body of an order: product, quantity, unit price."""
    return {"lines": [{"product": p, "quantity": q, "unit_price": price} for p, q, price in lines]} | more


def place(url: str, lines: Sequence[tuple[str, int, str]], **more: Any) -> str:
    """Places an order; answers its id."""
    answer = httpx.post(f"{url}/orders", json=order(lines, **more), timeout=10)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def wait_for(url: str, order_id: str, status: str, within: float = 60.0) -> dict[str, Any]:
    """Waits until the read model shows an order in this state; answers the row."""

    def look() -> dict[str, Any] | None:
        answer = httpx.get(f"{url}/orders/{order_id}", timeout=5)
        row = answer.json() if answer.status_code == 200 else {}
        return row if row.get("status") == status else None

    return eventually(look, within=within)
