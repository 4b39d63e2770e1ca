import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHOP = """
    from fastapi import FastAPI
    from millstream import Event, Rejected, Sandbox, Service, System, Topic, stop

    class Ordered(Event, key="order_id"):
        order_id: str
        what: str

    class Packed(Event, key="order_id"):
        order_id: str

    orders = Topic("shop.orders", Ordered, partitions=2)
    parcels = Topic("shop.parcels", Packed, partitions=2)

    desk = Service("desk", web="shop:app", publishes=[Ordered])
    packing = Service("packing")
    strict = Service("strict")

    @packing.on(Ordered)
    def pack(ordered: Ordered) -> Packed:
        if ordered.what == "a bomb":
            raise Rejected("forbidden", ordered.what)
        return Packed(order_id=ordered.order_id)

    @strict.on(Ordered, on_failure=stop)
    def refuse(ordered: Ordered) -> None:
        raise RuntimeError("not today")

    def app(web):
        app, publisher = FastAPI(), web.publisher

        @app.post("/orders/{order_id}")
        async def order(order_id: str, what: str) -> str:
            return await publisher.publish(Ordered(order_id=order_id, what=what))

        return app

    def idle(settings):
        import signal
        signal.sigwait([signal.SIGTERM])

    system = System("shop", ["shop:desk", "shop:packing"], [Sandbox("idle", "shop:idle", optional=True)])
    whole = System("whole", ["shop:desk", "shop:packing", "shop:strict"])
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a small system, and a pyproject.toml that names it."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(textwrap.dedent(SHOP))
    (folder / "pyproject.toml").write_text('[tool.millstream]\nsystem = "shop:system"\n')
    return folder


@pytest.fixture
def millstream(shop: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in the shop's folder, for a minute at most."""

    def call(*arguments: str, **env: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from millstream.operate.cli import main; main()", *arguments],
            cwd=shop,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"} | {name: str(value) for name, value in env.items()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call
