"""A system with dead letters: declared in a file of its own, so that commands in other processes find it, too."""

import contextlib
import importlib
import io
import json
import os
import sys
import textwrap
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from millstream.contracts import Contracts, Registry, header_writer
from millstream.kafka import Message, TopicSpec, connect
from millstream.operate.assembly import topics_of
from millstream.operate.dlq.audit import AUDIT, Audit
from millstream.operate.dlq.context import DlqContext, Origins
from millstream.operate.dlq.dead_letter import DeadLetter
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.reading import read_dead_letters
from millstream.runtime.records.dead_letter import dead_letter
from millstream.runtime.records.redrive import Redrive, read_redrive
from millstream.settings import Settings

SYSTEM = """
    from typing import Annotated
    from millstream import Event, Personal, Service, System, Topic

    class Ordered(Event, key="order_id", namespace="test"):
        order_id: str
        quantity: int = 1
        email: Annotated[str, Personal] = ""

    class Cancelled(Event, key="order_id", namespace="test"):
        order_id: str
        why: str = ""

    orders = Topic("{name}.orders", Ordered, Cancelled, partitions=2)
    {name}_packing = Service("{name}-packing")

    @{name}_packing.on(Ordered)
    def pack(ordered: Ordered) -> None: ...

    system = System("{name}", ["{name}:{name}_packing"])
"""


@dataclass
class Answer:
    """What a command said. `refused`: the error that it ended with, in words; `hints`: the rest of standard error."""

    code: int
    output: str
    refused: str
    hints: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]


class DlqRig:
    """One such system on one cluster.

    - `system`: another one, with a topic and a service of these names.
    """

    def __init__(self, bootstrap: str, registry: str, folder: Path, system: str = SYSTEM) -> None:
        self.name = name = f"t{uuid.uuid4().hex[:8]}"
        self.folder, self.bootstrap, self.registry = folder, bootstrap, registry
        (folder / f"{name}.py").write_text(textwrap.dedent(system.format(name=name)))
        (folder / "pyproject.toml").write_text(f'[tool.millstream]\nsystem = "{name}:system"\n')
        sys.path.insert(0, str(folder))
        self.module: Any = importlib.import_module(name)
        sys.path.remove(str(folder))
        self.service = getattr(self.module, f"{name}_packing")
        self.settings = Settings(bootstrap_servers=bootstrap, registry_url=registry)
        self.kafka = connect(self.settings, name)
        self.admin = self.kafka.admin()
        self.contracts = Contracts(Registry(registry))
        self.orders: str = f"{name}.orders"
        self.dlq = f"{name}.orders.dlq"
        self.group = f"{name}-packing.kafka"
        self.redrives = f"{self.group}.redrive"
        self.admin.ensure_topics([spec for spec in topics_of(self.service) if isinstance(spec, TopicSpec)])

    def close(self) -> None:
        self.admin.close()

    @property
    def env(self) -> dict[str, str]:
        return {
            "MILLSTREAM_BOOTSTRAP_SERVERS": self.bootstrap,
            "MILLSTREAM_REGISTRY_URL": self.registry,
            "NO_COLOR": "1",
            "COLUMNS": "250",
        }

    def send(self, *events: Any, raw: Iterable[tuple[str, bytes | None]] = ()) -> list[Message]:
        """Events on the topic, or raw (key, value) pairs; as they came."""
        before = {(m.partition(), m.offset()) for m in self.records(self.orders)}
        producer = self.kafka.producer()
        for event in events:
            headers = header_writer(type(event), "test")(f"id-{uuid.uuid4()}", "c-1", None, None)
            producer.produce(self.orders, self.contracts.encode(event), event.order_id.encode(), headers)
        for key, value in raw:
            producer.produce(self.orders, value, key.encode())
        producer.flush()
        producer.close()
        return [m for m in self.records(self.orders) if (m.partition(), m.offset()) not in before]

    def order(self, order: str, quantity: int = 1) -> Message:
        [message] = self.send(self.module.Ordered(order_id=order, quantity=quantity, email="ada@example.org"))
        return message

    def dead_letter(
        self, *messages: Message, error: Exception | None = None, ago: timedelta = timedelta(0), **said: Any
    ) -> None:
        """Dead letters of these messages, as a worker wrote them so long ago."""
        producer = self.kafka.producer()
        options = {"service": self.service.name, "handler": "pack", "attempts": 3, "group": self.group} | said
        for message in messages:
            producer.produce(*_record(message, error or TimeoutError("no answer"), ago, options))
        producer.flush()
        producer.close()

    def records(self, topic: str) -> list[Message]:
        if topic == AUDIT and AUDIT not in self.admin.topics():
            return []
        partitions = [0] if topic == AUDIT else [0, 1]
        return [m for batch in self.kafka.read_to_end(topic, partitions, timeout=20) for m in batch]

    def redriven(self) -> list[Redrive]:
        return [read_redrive(message) for message in self.records(self.redrives)]

    def context(self) -> DlqContext:
        origins = Origins(self.module.system)
        audit = Audit(self.kafka, self.admin, frozenset([self.dlq]))
        audit.refresh(settled=False)
        there = {name: found.partitions for name, found in self.admin.topics().items()}
        return DlqContext(self.kafka, self.admin, origins, audit, there)

    def dead_letters(self) -> list[DeadLetter]:
        return [dead_letter for dead_letter, _ in read_dead_letters(self.context(), [self.dlq], Filter())]

    def actions(self) -> list[dict[str, Any]]:
        """The audit of this system's dead letters."""
        ours = [m for m in self.records(AUDIT) if (m.key() or b"").startswith(self.dlq.encode())]
        return [json.loads(message.value() or b"") for message in ours]

    def call(self, *arguments: str, monkeypatch: pytest.MonkeyPatch | None = None, **env: str) -> Answer:
        """`millstream dlq …`, in this process."""
        from millstream.operate.cli.app import app

        command = ["dlq", *arguments]
        if arguments[0] != "--help":
            command += ["--system", f"{self.name}:system"]
        with contextlib.redirect_stderr(io.StringIO()):
            result = CliRunner().invoke(app, command, env={**os.environ, **self.env, **env})
        error = result.exception
        if error is not None and not isinstance(error, SystemExit):
            from millstream.errors import MillstreamError

            assert isinstance(error, MillstreamError), repr(error)
        return Answer(result.exit_code, result.stdout, "" if error is None else str(error), result.stderr)


def _record(message: Message, error: Exception, ago: timedelta, options: dict[str, Any]) -> tuple[Any, ...]:
    topic, key, value, headers = dead_letter(message, error=error, **options)
    failed = (datetime.now(UTC) - ago).isoformat(timespec="milliseconds").encode()
    said = [(name, failed if name == "millstream-dlq-failed-at" else text) for name, text in headers]
    return topic, value, key, said
