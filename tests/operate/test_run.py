"""One service as a process, and how processes end."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from millstream import Service, System
from millstream.errors import ConfigurationError, DeclarationError, Fenced, IncompatibleSchema
from millstream.kafka import connect
from millstream.operate import assembly
from millstream.operate import run as run_module
from millstream.operate.ports import Reserved
from millstream.operate.run import Crew, Exit, run
from millstream.runtime import slots
from millstream.runtime.slots import Slot
from millstream.settings import Settings
from millstream.testing.child import end, spawn, wait_until
from millstream.testing.local import LocalKafka

Start = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start(shop: Path, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process of the shop: the process, and the URL where it will answer."""
    monkeypatch.chdir(shop)
    monkeypatch.setenv("MILLSTREAM_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("MILLSTREAM_REGISTRY_URL", kafka.registry)
    with ExitStack() as stack:

        def starting(name: str, system: str = "shop:system") -> tuple[subprocess.Popen[bytes], str]:
            port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
            stack.callback(port.release)
            monkeypatch.setenv("MILLSTREAM_HTTP", port.address)
            command = [sys.executable, "-m", "millstream.operate", "--system", system, "run", name]
            process = spawn(command, output=shop / f"{name}.log")
            stack.callback(end, process)
            return process, port.url

        yield starting


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def ready(url: str) -> None:
    wait_until(lambda: healthy(url), seconds=60, what=f"{url} is healthy")


def keys(kafka: LocalKafka, topic: str) -> list[bytes | None]:
    cluster = connect(Settings(bootstrap_servers=kafka.bootstrap))
    return [message.key() for batch in cluster.read_to_end(topic) for message in batch]


def test_services_run_answer_and_stop(start: Start, kafka: LocalKafka):
    (desk, desk_url), (packing, packing_url) = start("desk"), start("packing")
    ready(desk_url)
    ready(packing_url)
    for order_id, what in (("o-1", "a book"), ("o-2", "a bomb")):
        assert httpx.post(f"{desk_url}/orders/{order_id}", params={"what": what}).status_code == 200
    wait_until(lambda: keys(kafka, "shop.parcels") == [b"o-1"], seconds=60, what="the book is packed")
    wait_until(lambda: keys(kafka, "shop.orders.dlq") == [b"o-2"], seconds=60, what="the bomb is set aside")
    metrics = httpx.get(f"{packing_url}/metrics").text
    assert 'millstream_events_total{handler="pack"' in metrics
    assert "millstream_publisher_batch_size" in httpx.get(f"{desk_url}/metrics").text
    for process in (desk, packing):
        process.send_signal(signal.SIGTERM)
    assert [desk.wait(60), packing.wait(60)] == [0, 0]


def test_a_worker_that_cannot_go_on_ends_the_process(start: Start, shop: Path):
    _, desk_url = start("desk")
    strict, _ = start("strict", "shop:whole")
    ready(desk_url)
    assert httpx.post(f"{desk_url}/orders/o-1", params={"what": "a book"}).status_code == 200
    assert strict.wait(20) == Exit.FAILED
    assert "not today" in (shop / "strict.log").read_text()


def test_a_process_that_waits_for_its_broker_can_be_stopped(start: Start, kafka: LocalKafka):
    kafka.stop()
    packing, url = start("packing")

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 503
        except httpx.TransportError:
            return False

    wait_until(answers, seconds=60, what="it says that it is not ready")
    packing.send_signal(signal.SIGINT)
    assert packing.wait(6) == 0


def test_a_bad_setting_is_named(start: Start, shop: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILLSTREAM_SLOT", "first")
    process, _ = start("packing")
    assert process.wait(20) == Exit.MISCONFIGURED
    [line] = (shop / "packing.log").read_text().splitlines()
    record = json.loads(line)
    assert (record["event.code"], record["error"]["code"]) == ("cannot_start", "configuration_error")
    assert record["millstream"]["error"].startswith("MILLSTREAM_SLOT: ")


def test_a_wait_for_brokers_is_told_and_ends_with_the_setting(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(shop))
    monkeypatch.setattr(run_module, "WAITS_SECONDS", 0.05)
    monkeypatch.setattr(assembly, "START_TIMEOUT", 0.5)
    monkeypatch.setenv("MILLSTREAM_BOOTSTRAP_SERVER", "127.0.0.1:2")
    settings = Settings(
        bootstrap_servers="127.0.0.1:1", registry_url="http://ann:s3cret@127.0.0.1:1", data_dir=tmp_path
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process, which is the tests' own
    assert run(System("shop", ["shop:packing"]), "packing", settings) == Exit.FAILED
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = {record["event.code"]: record.get("millstream", {}) for record in records}
    assert told["waiting_for_the_cluster"]["brokers"] == "127.0.0.1:1"
    assert "MILLSTREAM_BOOTSTRAP_SERVERS" in told["waiting_for_the_cluster"]["remedy"]
    assert "did you mean MILLSTREAM_BOOTSTRAP_SERVERS?" in told["unknown_setting"]["detail"]
    assert "MILLSTREAM_BOOTSTRAP_SERVERS is 127.0.0.1:1" in told["cannot_start"]["error"]
    assert "s3cret" not in str(told)


def test_a_taken_slot_has_an_exit_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slots, "Slot", partial(Slot, timeout=0.1))
    settings = Settings(data_dir=tmp_path)
    system = System("shop", ["tests_operate_none:none"])
    monkeypatch.setattr(System, "service", lambda self, name: Service(name))
    with Slot("none", settings):
        assert run(system, "none", settings) == Exit.SLOT_TAKEN


def test_an_address_that_is_taken_is_named_once_the_slot_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(slots, "Slot", partial(Slot, timeout=0.1))
    monkeypatch.setattr(System, "service", lambda self, name: Service(name))
    system = System("shop", ["tests_operate_none:none"])
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        settings = Settings(data_dir=tmp_path, http=address)
        assert run(system, "none", settings) == Exit.MISCONFIGURED
        said = "".join(capsys.readouterr())
        assert f"MILLSTREAM_HTTP is {address}" in said
        assert "port 0 takes a free one" in said
        with Slot("none", settings):
            assert run(system, "none", settings) == Exit.SLOT_TAKEN


def test_a_service_that_cannot_be_imported_is_a_wrong_declaration(tmp_path: Path):
    assert run(System("shop", ["nowhere:none"]), "none", Settings(data_dir=tmp_path)) == Exit.MISCONFIGURED


class Waits:
    def __init__(self, name: str, order: list[str]) -> None:
        self.name, self.order = name, order

    def run(self, stop: threading.Event) -> None:
        stop.wait(10)
        self.order.append(self.name)


class Fails:
    name = "fails"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def run(self, stop: threading.Event) -> None:
        raise self.error


class FailsLater(Fails):
    def run(self, stop: threading.Event) -> None:
        stop.wait(10)
        super().run(stop)


class Ends:
    name = "ends"

    def run(self, stop: threading.Event) -> None:
        return


@pytest.mark.parametrize(
    ("bad", "ended"),
    [
        (Fails(RuntimeError("no")), Exit.FAILED),
        (Fails(Fenced("no")), Exit.FAILED),
        (Fails(DeclarationError("no")), Exit.MISCONFIGURED),
        (Fails(ConfigurationError("no")), Exit.MISCONFIGURED),
        (Fails(IncompatibleSchema("no")), Exit.MISCONFIGURED),
        (Ends(), Exit.FAILED),
    ],
)
def test_when_one_worker_ends_all_do_and_the_late_last(bad: Fails | Ends, ended: Exit):
    order: list[str] = []
    stop = threading.Event()
    crew = Crew([Waits("early", order), bad], [Waits("late", order)], stop)
    crew.start()
    assert stop.wait(5)
    assert crew.finish()
    assert crew.exit is ended
    assert order == ["early", "late"]


@pytest.mark.parametrize(
    ("first", "then", "ended"),
    [
        (RuntimeError("no"), DeclarationError("no"), Exit.FAILED),
        (DeclarationError("no"), RuntimeError("no"), Exit.MISCONFIGURED),
    ],
)
def test_the_first_failure_says_how_it_ended(first: Exception, then: Exception, ended: Exit):
    stop = threading.Event()
    crew = Crew([FailsLater(then), Fails(first)], [], stop)
    crew.start()
    assert stop.wait(5)
    assert crew.finish()
    assert crew.exit is ended


def test_all_stop_in_order_when_told_to():
    order: list[str] = []
    stop = threading.Event()
    crew = Crew([Waits("early", order)], [Waits("late", order)], stop)
    crew.start()
    stop.set()
    assert crew.finish()
    assert crew.exit is Exit.STOPPED
    assert crew.running == []
