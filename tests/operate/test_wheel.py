"""The built wheel, installed without extras: enough to run services with brokers elsewhere."""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.extras import MODULES
from millstream.testing.child import end, spawn, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.ports import free_ports

pytestmark = pytest.mark.real  # asks a package registry for what the wheel depends on

ROOT = Path(__file__).parents[2]


def run(*command: object, timeout: float = 240, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout, **more)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel alone was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).parent / "uv"
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    built = run(uv, "build", "--wheel", "--no-build-isolation", "--out-dir", folder, ROOT, env=env)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("millstream-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    pinned = ["--constraint", ROOT / "requirements" / "run.lock"]
    installed = run(uv, "pip", "install", "--python", python, "--compile-bytecode", *pinned, wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    return python


@contextmanager
def service(python: Path, folder: Path, name: str, kafka: LocalKafka) -> Iterator[str]:
    (port,) = free_ports(1)
    env = {
        "MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MILLSTREAM_REGISTRY_URL": kafka.registry,
        "MILLSTREAM_HTTP": f"127.0.0.1:{port}",
    }
    command = ["env", "-C", str(folder), *(f"{key}={value}" for key, value in env.items())]
    process = spawn([*command, str(python.parent / "millstream"), "run", name], output=folder / f"{name}.log")
    try:
        wait_until(lambda: healthy(f"http://127.0.0.1:{port}"), seconds=60, what=f"{name} is healthy")
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def test_it_brings_nothing_of_the_local_platform(python: Path):
    apart = [module for module in MODULES["local"] if module != "h11"]  # which uvicorn brings
    for module in (*apart, *MODULES["postgresql"]):
        assert "ModuleNotFoundError" in run(python, "-c", f"import {module}").stderr


def test_services_run_with_it_beside_a_broker_elsewhere(python: Path, shop: Path, kafka: LocalKafka):
    with service(python, shop, "desk", kafka) as desk, service(python, shop, "packing", kafka):
        assert httpx.post(f"{desk}/orders/o-1", params={"what": "a book"}, timeout=30).is_success
        tail = [python.parent / "millstream", "tail", "shop.parcels", "--no-follow", "--json"]
        env = {**os.environ, "MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLSTREAM_REGISTRY_URL": kafka.registry}
        wait_until(
            lambda: "o-1" in run(*tail, cwd=shop, env=env).stdout, seconds=60, what="the book is packed", every=0.2
        )


@pytest.mark.parametrize("command", ["up", "broker", "simulate"])
def test_what_needs_the_local_platform_names_the_extra(python: Path, shop: Path, command: str):
    done = run(python.parent / "millstream", command, cwd=shop)
    assert done.returncode == 2, done.stderr
    assert "pip install 'millstream[local]'" in done.stderr
