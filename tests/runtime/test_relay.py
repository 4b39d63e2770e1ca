"""The relay, against real brokers: every row once, in the order of commits, whatever happens in between."""

import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.runtime.limits import noise, set_limit
from tests.runtime.running import Running
from tests.runtime.sql_rig import ROOT, SqlRig, running

from millstream.errors import ConfigurationError, KafkaFault
from millstream.runtime.sql.outbox import Outbox
from millstream.runtime.sql.relay import Turn, read_position, relay_lock, write_position
from millstream.testing.child import end, spawn, wait_until
from millstream.testing.plugin import Cluster


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path):
    made = SqlRig(cluster.bootstrap, tmp_path)
    made.make_topics()
    yield made
    made.engine.dispose()


def append(rig: SqlRig, *values: int) -> None:
    topic = rig.stock.reserved.name
    with rig.engine.begin() as connection:
        Outbox(rig.service.name).append(
            connection, [(topic, b"k", b"%d" % value, [("trace", b"\xff")]) for value in values]
        )
    rig.wake.set()


def published(rig: SqlRig) -> list[int]:
    return [int(message.value() or b"") for message in rig.records(rig.stock.reserved.name)]


def rows(rig: SqlRig) -> int:
    with rig.engine.connect() as connection:
        return Outbox(rig.service.name).waiting(connection, 0)[0]


def wait_for(rig: SqlRig, count: int) -> None:
    wait_until(lambda: len(published(rig)) >= count, seconds=60, what=f"{count} rows published", every=0.05)


def turn(rig: SqlRig) -> Turn:
    made = Turn(rig.service, rig.kafka, rig.engine)
    made.begin()
    return made


def test_publishes_in_order_and_deletes_what_it_published(rig: SqlRig):
    append(rig, *range(1_200))
    with running(rig.relay()):
        wait_for(rig, 1_200)
        append(rig, 1_200)
        wait_for(rig, 1_201)
        wait_until(lambda: rows(rig) == 0, seconds=60, what="rows deleted")
    assert published(rig) == list(range(1_201))
    (first, *_) = rig.records(rig.stock.reserved.name)
    assert (first.key(), first.headers()) == (b"k", [("trace", b"\xff")])


def test_publishes_what_was_committed_before_it_was_told_to_stop(rig: SqlRig):
    stopping = Running(rig.relay())
    append(rig, 1)
    wait_for(rig, 1)
    append(rig, 2)
    stopping.stop()
    assert stopping.error is None
    assert published(rig) == [1, 2]


@pytest.mark.scenario(13)
def test_a_crash_between_publishing_and_deleting_publishes_nothing_twice(rig: SqlRig):
    append(rig, 1, 2, 3)
    crashed = turn(rig)
    crashed.publish_all()
    assert rows(rig) == 3
    append(rig, 4)
    with running(rig.relay()):
        wait_for(rig, 4)
        wait_until(lambda: rows(rig) == 0, seconds=60, what="rows deleted")
    crashed.close()
    assert published(rig) == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.scenario(13)
def test_a_relay_killed_at_any_moment_loses_and_doubles_nothing(rig: SqlRig, tmp_path: Path):
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.runtime.test_relay import main; main()"
    command = [sys.executable, "-c", script, rig.bootstrap, str(rig.folder), rig.name]
    total = 0
    for life in range(5):
        append(rig, *range(total, total + 700))
        total += 700
        child = spawn(command, output=tmp_path / "relay.log")
        # Each life is ended a little further on.
        wait_until(
            lambda seen=total - 700 + life * 100: len(published(rig)) > seen, seconds=60, what="some rows", every=0
        )
        end(child, how=signal.SIGKILL)
    with running(rig.relay()):
        wait_for(rig, total)
    assert published(rig) == list(range(total))


def test_one_relays_and_the_next_takes_over(rig: SqlRig):
    with relay_lock(rig.engine, rig.service.name) as mine:
        assert mine
        with relay_lock(rig.engine, rig.service.name) as also_mine:
            assert not also_mine
        standing_by = Running(rig.relay())
        append(rig, 1)
        wait_until(lambda: rig.wake.is_set(), seconds=120, what="nobody has taken the row")
        assert published(rig) == []
    wait_for(rig, 1)
    standing_by.stop()
    assert published(rig) == [1]


def test_a_relay_that_lost_its_lock_without_noticing_is_fenced(rig: SqlRig):
    zombie = turn(rig)
    append(rig, 1)
    zombie.publish_all()
    successor = turn(rig)
    append(rig, 2)
    with pytest.raises(KafkaFault):
        zombie.publish_all()
    successor.publish_all()
    for each in (zombie, successor):
        each.close()
    wait_for(rig, 2)  # a cluster shows a committed transaction once its markers are written
    assert published(rig) == [1, 2]


def test_a_database_restored_from_a_backup_is_refused_with_the_remedy(rig: SqlRig, tmp_path: Path):
    append(rig, 1)
    with running(rig.relay()):
        wait_for(rig, 1)
    copy(str(rig.engine.url.database), tmp_path / "backup.db")
    append(rig, 2, 3)
    with running(rig.relay()):
        wait_for(rig, 3)
    rig.engine.dispose()
    copy(tmp_path / "backup.db", str(rig.engine.url.database))
    append(rig, 4)
    refused = Running(rig.relay())
    refused.wait()
    assert isinstance(refused.error, ConfigurationError)
    statement = str(refused.error).split("backup? ")[1].split(" there")[0]
    with rig.engine.begin() as connection:
        connection.execute(text(statement))
    with running(rig.relay()):
        wait_for(rig, 4)
    assert published(rig) == [1, 2, 3, 4]


def test_a_copy_of_its_position_in_another_cluster_skips_no_row(rig: SqlRig):
    append(rig, 1, 2, 3)
    with running(rig.relay()):
        wait_for(rig, 3)
        wait_until(lambda: rows(rig) == 0, seconds=60, what="rows deleted")
    append(rig, 4)
    group, admin = f"{rig.service.name}.relay", rig.kafka.admin()
    ((home, (offset, metadata)),) = admin.group_offsets(group).items()
    identity, row = read_position(metadata) or ("", 0)
    assert (offset, row) == (0, 4), "no tool can translate the number of a row"
    # As MirrorMaker 2 leaves it there: another offset, the metadata word for word, and a cluster of another id.
    elsewhere = write_position(f"{identity.partition('@')[0]}@another", 1_000)
    consumer = rig.kafka.consumer(group)
    consumer.commit({home: 7}, {home: elsewhere})
    consumer.close()
    admin.close()
    with running(rig.relay()):
        wait_for(rig, 4)
    assert published(rig) == [1, 2, 3, 4]


def copy(source: str | Path, target: str | Path) -> None:
    """One SQLite database over another, as their own tool does it."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def test_what_was_published_is_gone_when_the_relay_has_stopped(rig: SqlRig):
    append(rig, *range(10))
    with running(rig.relay()):
        wait_for(rig, 10)
        append(rig, 10)
    assert (published(rig), rows(rig)) == (list(range(11)), 0)


def test_a_database_made_anew_publishes_from_its_first_row(rig: SqlRig, tmp_path: Path):
    append(rig, 1, 2)
    with running(rig.relay()):
        wait_for(rig, 2)
    anew = SqlRig(rig.bootstrap, tmp_path / "anew", rig.name)
    append(anew, 3)
    with running(anew.relay()):
        wait_for(anew, 3)
    anew.engine.dispose()
    assert published(rig) == [1, 2, 3]


def test_a_header_without_a_value_is_published_as_one(rig: SqlRig):
    topic = rig.stock.reserved.name
    headers = [("ce_id", b"1"), ("nothing", None), ("empty", b"")]
    with rig.engine.begin() as connection:
        Outbox(rig.service.name).append(connection, [(topic, b"k", b"1", headers)])
    with running(rig.relay()):
        wait_for(rig, 1)
    (message,) = rig.records(topic)
    assert message.headers() == headers


def test_a_row_that_cannot_be_read_is_set_aside_and_holds_up_no_other(rig: SqlRig):
    append(rig, 1, 2, 3)
    with rig.engine.begin() as connection:
        whole = connection.execute(text("SELECT headers FROM millstream_outbox WHERE seq = 2")).scalar_one()
        connection.execute(text("UPDATE millstream_outbox SET headers = :bad WHERE seq = 2"), {"bad": b"\xc1"})
    with running(rig.relay()):
        wait_for(rig, 2)
        append(rig, 4)
        wait_for(rig, 3)
        wait_until(lambda: rows(rig) == 0, seconds=60, what="rows deleted")
    assert published(rig) == [1, 3, 4]
    with rig.engine.begin() as connection:
        (refused,) = connection.execute(text("SELECT seq, payload, reason FROM millstream_outbox_refused"))
        assert tuple(refused) == (2, b"2", "its headers cannot be read")
        # Mended, it is published when the relay starts.
        connection.execute(text("UPDATE millstream_outbox_refused SET headers = :whole"), {"whole": whole})
    with running(rig.relay()):
        wait_for(rig, 4)
    assert published(rig) == [1, 3, 4, 2]
    with rig.engine.connect() as connection:
        assert Outbox(rig.service.name).refused(connection) == 0


def test_a_row_that_its_topic_does_not_take_is_set_aside_until_it_does(rig: SqlRig):
    topic = rig.stock.reserved.name
    set_limit(rig.bootstrap, topic, 20_000)
    large = noise(30_000)
    append(rig, 1)
    with rig.engine.begin() as connection:
        Outbox(rig.service.name).append(connection, [(topic, b"k", large, [])])
    append(rig, 2)
    with running(rig.relay()):
        wait_for(rig, 2)
    with rig.engine.connect() as connection:
        (reason,) = connection.execute(text("SELECT reason FROM millstream_outbox_refused")).scalars()
    assert topic in reason
    assert "max.message.bytes" in reason
    set_limit(rig.bootstrap, topic, 40_000)
    with running(rig.relay()):
        wait_until(lambda: len(rig.records(topic)) == 3, seconds=60, what="the large row", every=0.05)
    assert [message.value() for message in rig.records(topic)] == [b"1", b"2", large]


def test_a_limit_that_was_lowered_meanwhile_is_found_out(rig: SqlRig):
    topic = rig.stock.reserved.name
    relay = turn(rig)
    append(rig, 1)
    relay.publish_all()
    set_limit(rig.bootstrap, topic, 20_000)
    large = noise(30_000)
    append(rig, *range(2, 12))
    with rig.engine.begin() as connection:
        Outbox(rig.service.name).append(connection, [(topic, b"k", large, [])])
    append(rig, *range(12, 20))
    relay.publish_all()
    relay.close()
    assert published(rig) == list(range(1, 20))
    with rig.engine.connect() as connection:
        assert Outbox(rig.service.name).refused(connection) == 1


def main() -> None:
    bootstrap, folder, name = sys.argv[1:]
    SqlRig(bootstrap, Path(folder), name).relay().run(threading.Event())
