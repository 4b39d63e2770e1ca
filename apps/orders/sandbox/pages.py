"""The pages of the public address, without a script or anything from elsewhere."""

from collections.abc import Iterable
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{background:#f4f4f4;border-radius:4px;padding:.1rem .3rem}pre{padding:.7rem;overflow:auto}"
    "h3 b{display:inline-block;min-width:4rem;color:#06c}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
)

_START = """
<h1>Orders</h1>
<p>Place an order, then follow it:</p>
<pre>curl -i {url}/orders -H 'Content-Type: application/json' \\
  -d '{{"customer": "17850", "lines": [{{"product": "DEMO-1", "quantity": 2, "unit_price": "4.50"}}]}}'</pre>
<ul>
<li><a href="/docs">The API</a> (<a href="/openapi/commands.json">commands</a> and
<a href="/openapi/queries.json">queries</a> as OpenAPI)</li>
<li><a href="/orders?limit=20">Orders</a>, <a href="/returns?limit=20">returns</a></li>
<li><a href="/products?limit=20">Products</a>, <a href="/stock?limit=20">stock</a></li>
<li><a href="/mail">The mailbox</a>, <a href="/payments">the payment gateway's list</a></li>
</ul>
"""


def start_page(url: str) -> str:
    """What there is to see at `url`."""
    return _page("Orders", _START.format(url=url))


def docs_page(documents: Iterable[dict[str, Any]]) -> str:
    """The operations of several OpenAPI documents."""
    return _page("Orders: the API", "<h1>The API</h1>" + "".join(_document(document) for document in documents))


def _document(document: dict[str, Any]) -> str:
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    info = document["info"]
    return f"<h2>{escape(info['title'])}</h2><p>{escape(info.get('description', ''))}</p>{operations}"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
        f"<td>{escape(parameter.get('description', ''))}"
        for parameter in operation.get("parameters", [])
    )
    answers = ", ".join(escape(status) for status in operation["responses"])
    return (
        f"<h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
        f"<table>{rows}</table><p>Answers {answers}</p>"
    )


def _page(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>{body}</html>"
    )
