"""A record whose headers cannot be decoded: set aside with its key and value, and neighbours go on."""

from pathlib import Path
from typing import Any

from tests.kafka.unreadable import SpoilingKafka
from tests.runtime.effect_rig import EffectRig
from tests.runtime.rig import Rig
from tests.runtime.running import Running
from tests.runtime.sql_rig import SqlRig, running

from millstream.kafka import Message
from millstream.runtime.effect.worker import EffectWorker
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.sql.worker import SqlWorker
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster


def check(letters: list[Message], spoiling: SpoilingKafka, key: bytes) -> None:
    (letter,) = letters
    told = dict(letter.headers() or ())
    assert letter.key() == key
    assert letter.value()
    assert told["millstream-dlq-reason"] == b"headers_unreadable"
    assert told["millstream-dlq-headers"] == b"unreadable"
    assert [message.asked for message in spoiling.spoilt] == [1] * len(spoiling.spoilt)
    assert spoiling.spoilt


def test_kafka_handlers(cluster: Cluster):
    rig = Rig(cluster.bootstrap, cluster.registry)
    rig.make_topics()
    rig.pay(("o-1", 1), ("bad", 1), ("o-1", 2))
    spoiling: Any = SpoilingKafka(rig.kafka, b"bad")
    with rig.running(KafkaWorker(rig.service, rig.settings(0), rig.contracts, spoiling)) as run:
        rig.wait_until_caught_up()
    assert run.error is None
    assert rig.shipped() == {"o-1": [1, 2]}
    check(rig.dead_letters(), spoiling, b"bad")
    # Handed in again, it is handled without them.
    (letter,) = rig.dead_letters()
    with rig.running():
        rig.redrive(letter, letter.value() or b"")
        wait_until(lambda: "bad" in rig.shipped(), seconds=60, what="the redrive", every=0.1)
    rig.close()


def test_sql_handlers(cluster: Cluster, tmp_path: Path):
    rig = SqlRig(cluster.bootstrap, tmp_path)
    rig.make_topics()
    rig.order(("apple", 1), ("bad", 1), ("apple", 2), id="x")
    spoiling: Any = SpoilingKafka(rig.kafka, b"bad")
    worker = SqlWorker(rig.service, rig.settings(0), rig.contracts, spoiling, rig.engine, rig.wake)
    with running(worker, rig.relay()):
        rig.wait_until_published(2)
        wait_until(lambda: len(rig.dead_letters()) == 1, seconds=60, what="a dead letter", every=0.1)
    assert rig.published() == {"apple": [1, 2]}
    check(rig.dead_letters(), spoiling, b"bad")
    rig.engine.dispose()


def test_effects(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path)
    rig.make_topics()
    rig.charge(("a", 1), ("bad", 1), ("a", 2))
    spoiling: Any = SpoilingKafka(rig.kafka, b"bad")
    worker = Running(EffectWorker(rig.service, rig.settings(0), rig.contracts, spoiling))
    rig.wait_until_charged(2)
    rig.wait_until_caught_up()
    worker.stop()
    assert worker.error is None
    assert rig.charged() == {"a": [1, 2]}
    check(rig.dead_letters(), spoiling, b"bad")
