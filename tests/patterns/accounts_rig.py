"""A bank on a cluster: its worker in this process, or in one to be killed."""

import json
import sys
import threading
import uuid
from collections import defaultdict
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.patterns.accounts import Accounts

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import Kind, key_of
from millstream.kafka import Message, connect
from millstream.operate.assembly import topics_of
from millstream.patterns.aggregate import Version, replay
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

ROOT = Path(__file__).parents[2]


class Bank:
    """The bank of `Accounts`."""

    def __init__(self, bootstrap: str, registry: str, name: str | None = None) -> None:
        self.of = Accounts(name or f"b{uuid.uuid4().hex[:8]}")
        self.bootstrap, self.registry = bootstrap, registry
        self.kafka = connect(self.settings(0), self.of.name)
        self.contracts = Contracts(Registry(registry))
        self.producer = self.kafka.producer()

    def settings(self, slot: int) -> Settings:
        return Settings(
            bootstrap_servers=self.bootstrap,
            registry_url=self.registry,
            slot=slot,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.of.service))
        admin.close()

    def worker(self, slot: int = 0) -> KafkaWorker:
        return KafkaWorker(self.of.service, self.settings(slot), self.contracts, self.kafka)

    def child(self, output: Path, slot: int = 0) -> Popen[bytes]:
        """The same worker in a process of its own."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.patterns.accounts_rig import main; main()"
        arguments = json.dumps([self.bootstrap, self.registry, self.of.name, slot])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def send(self, *commands: Any) -> None:
        for command in commands:
            id = edge_id()
            headers = header_writer(type(command), "test")(id, id, None, None)
            value, key = self.contracts.encode(command), key_of(command).encode()
            self.producer.produce(self.of.commands.name, value, key, headers)
        self.producer.flush()

    def records(self, topic: str) -> list[Message]:
        return [message for batch in self.kafka.read_to_end(topic, timeout=20) for message in batch]

    def said(self) -> dict[str, list[Any]]:
        """The events of each account, in order."""
        decode = self.contracts.decoder([self.of.events]).decode
        found: dict[str, list[Any]] = defaultdict(list)
        for message in self.records(self.of.events.name):
            event = decode(message.value())
            found[key_of(event)].append(event)
        return dict(found)

    def replayed(self) -> dict[str, Version[Any]]:
        """What the events of each account that anything changed lead to."""
        found = {key: replay(self.of.Account, events) for key, events in self.said().items()}
        return {key: version for key, version in found.items() if version.version}

    def snapshots(self) -> dict[str, Version[Any]]:
        """What the service keeps of each account, from its changelog."""
        (store,) = self.of.service.stores()
        topic = store.changelog(self.of.service.name)
        decode = self.contracts.values(topic, store.value).decode
        kept = {
            (message.key() or b"").decode(): message.value() and decode(message.value())
            for message in self.records(topic)
        }
        return {key: Version(snapshot.state, snapshot.version) for key, snapshot in kept.items() if snapshot}

    def lag(self) -> int:
        admin = self.kafka.admin()
        try:
            found = admin.group_lag(self.of.service.group(Kind.KAFKA), [self.of.commands.name])
        finally:
            admin.close()
        return sum(partition.lag for partition in found)

    def wait_until_caught_up(self) -> None:
        wait_until(lambda: self.lag() == 0, seconds=120, what="the bank to catch up", every=0.05)


def main() -> None:
    bootstrap, registry, name, slot = json.loads(sys.argv[1])
    Bank(bootstrap, registry, name).worker(slot).run(threading.Event())
