"""`millstream broker`, as a person and as a program start it."""

import json
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE = 60.0
Start = Callable[..., "subprocess.Popen[str]"]
COMMAND = [sys.executable, "-c", "from millstream.operate.cli import main; main()", "broker"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a broker on a free port and a folder of this test; it is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, listen: str = "127.0.0.1:0") -> "subprocess.Popen[str]":
        command = [*COMMAND, "--data", str(tmp_path / "data"), "--listen", listen, *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE)[0]
    return process.stdout.readline()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_it_says_in_a_line_what_runs_and_stops_on_ctrl_c(start: Start, tmp_path: Path):
    process = start("--registry", "127.0.0.1:0")
    line = first_line(process)
    assert line.startswith("Kafka broker at 127.0.0.1:")
    assert f"registry at http://127.0.0.1:{line.split('registry at http://127.0.0.1:')[1]}" in line
    assert str(tmp_path / "data") in line
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert process.communicate() == ("", "")


def test_programs_are_told_in_json(start: Start):
    process = start("--registry", "127.0.0.1:0", "--control", "127.0.0.1:0", "--json")
    told = json.loads(first_line(process))
    assert told["pid"] == process.pid
    assert told["bootstrap"].startswith("127.0.0.1:")
    assert told["registry"].startswith("http://127.0.0.1:")
    assert told["control"].startswith("http://127.0.0.1:")


def test_what_was_acknowledged_is_there_after_a_stop(start: Start, tmp_path: Path):
    process = start("--json", "--fsync", "ack", "--auto-create", "3")
    bootstrap = json.loads(first_line(process))["bootstrap"]
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    producer.produce("t", b"v", partition=2)
    assert producer.flush(PATIENCE) == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "data" / "checkpoint").exists()
    bootstrap = json.loads(first_line(start("--json")))["bootstrap"]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "log_level": 0})
    consumer.assign([TopicPartition("t", 2, 0)])
    assert [message.value() for message in consumer.consume(1, PATIENCE)] == [b"v"]
    consumer.close()


def test_a_topic_is_made_by_its_first_use_as_apache_kafka_does_it(start: Start):
    bootstrap = json.loads(first_line(start("--json")))["bootstrap"]
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    delivered: list[Message] = []
    producer.produce("payments", b"v", on_delivery=lambda _, message: delivered.append(message))
    assert producer.flush(PATIENCE) == 0
    assert [(message.error(), message.offset()) for message in delivered] == [(None, 0)]
    topics = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=PATIENCE).topics
    assert {name: len(topic.partitions) for name, topic in topics.items()} == {"payments": 1}


def test_a_strict_broker_makes_no_topic(start: Start):
    bootstrap = json.loads(first_line(start("--json", "--auto-create", "0")))["bootstrap"]
    producer = Producer({"bootstrap.servers": bootstrap, "topic.metadata.propagation.max.ms": 0, "log_level": 0})
    errors: list[KafkaError | None] = []
    producer.produce("payments", b"v", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(PATIENCE) == 0
    assert [error and error.code() for error in errors] == [KafkaError.UNKNOWN_TOPIC_OR_PART]
    assert not AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=PATIENCE).topics


def test_who_asks_for_a_group_protocol_that_is_not_there_is_named_in_the_log(start: Start):
    process = start("--json")
    bootstrap = json.loads(first_line(process))["bootstrap"]
    for _ in range(2):
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "payments", "group.protocol": "consumer", "log_level": 0}
        )
        consumer.subscribe(["t"])
        refused = consumer.poll(PATIENCE)
        assert refused is not None and (error := refused.error()) is not None
        assert error.code() == KafkaError._FATAL
        consumer.close()
    process.terminate()
    (said,) = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert "WARNING group_protocol_refused: the client 'rdkafka' at 127.0.0.1 joins group 'payments'" in said
    assert "set group.protocol=classic" in said


def test_clients_are_told_the_advertised_address(start: Start):
    process = start("--json", "--advertise", "localhost:0", listen="0.0.0.0:0")
    told = json.loads(first_line(process))["bootstrap"]
    assert told.startswith("localhost:")
    brokers = AdminClient({"bootstrap.servers": told, "log_level": 0}).list_topics(timeout=PATIENCE).brokers
    assert [f"{broker.host}:{broker.port}" for broker in brokers.values()] == [told]
    process.terminate()
    assert "no authentication" in process.communicate(timeout=PATIENCE)[1]


def test_a_folder_has_one_broker(start: Start, tmp_path: Path):
    first = start("--json")
    first_line(first)
    second = start("--json")
    said = second.communicate(timeout=PATIENCE)[1]
    assert second.returncode == 3
    assert said == (
        f"millstream broker: {tmp_path / 'data'} is in use by the broker with pid {first.pid}; "
        "stop it or name another folder\n"
    )


@pytest.mark.parametrize("option", ["--listen", "--registry", "--control"])
def test_an_address_in_use_is_told_in_a_line(tmp_path: Path, option: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = {"--listen": "127.0.0.1:0", option: address}
        done = run("--data", str(tmp_path / "data"), *(part for pair in arguments.items() for part in pair))
    assert done.returncode == 2
    assert done.stderr == (
        f"millstream broker: {option} {address}: address already in use; choose another address, or port 0 for a free "
        "one\n"
    )


def test_a_folder_that_is_a_file_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "file").touch()
    done = run("--data", str(tmp_path / "file"), "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"--data {tmp_path / 'file'}" in done.stderr


def test_damaged_data_is_told_in_a_line(start: Start, tmp_path: Path):
    process = start()
    first_line(process)
    process.terminate()
    process.wait(PATIENCE)
    journal = tmp_path / "data" / "coordinator.journal"
    journal.unlink(missing_ok=True)
    journal.mkdir()
    done = run("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data"),
        (["--listen", "9092"], "'9092' is not HOST:PORT"),
        (["--listen", "localhost:70000"], "is not HOST:PORT"),
        (["--listen", "0.0.0.0:9092"], "--advertise"),
        (["--advertise", "0.0.0.0:9092"], "no address that a client could use"),
        (["--control", "0.0.0.0:9644"], "--control-anywhere"),
        (["--fsync", "always"], "'never', 'interval', 'ack'"),
        (["--auto-create", "-1"], "--auto-create"),
        (["--dat", "x"], "--dat"),
    ],
)
def test_wrong_usage_is_told_with_its_remedy(tmp_path: Path, arguments: list[str], said: str):
    data = [] if not arguments else ["--data", str(tmp_path / "data")]
    done = run(*data, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


def test_help_says_what_it_is_not_for():
    done = run("--help")
    assert done.returncode == 0
    assert "not for production" in done.stdout
    assert "millstream broker --data" in done.stdout.split("Examples:")[1]
    assert "Exit codes" in done.stdout


def test_the_command_line_does_not_stay_in_the_brokers_memory(start: Start):
    process = start("--json")
    assert json.loads(first_line(process))["pid"] == process.pid
    mapped = Path(f"/proc/{process.pid}/maps").read_text()
    for library in ("_ssl", "librdkafka", "msgspec", "pydantic_core", "sqlalchemy"):
        assert library not in mapped


def test_topics_can_be_created_while_the_registry_sleeps(start: Start):
    told = json.loads(first_line(start("--json", "--registry", "127.0.0.1:0")))
    admin = AdminClient({"bootstrap.servers": told["bootstrap"], "log_level": 0})
    admin.create_topics([NewTopic("t", 1)])["t"].result(PATIENCE)
    assert set(admin.list_topics(timeout=PATIENCE).topics) == {"t"}
