"""The worker of SQL handlers and its relay, against real brokers and a SQLite file."""

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tests.runtime.running import Running
from tests.runtime.sql_rig import SqlRig, running

from millstream.declare import Kind, stop
from millstream.errors import Fenced, Rejected, TopicReplaced, Unsettled
from millstream.runtime.sql.positions import move_positions, read_positions
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path):
    made = SqlRig(cluster.bootstrap, tmp_path)
    made.make_topics()
    yield made
    made.engine.dispose()


def test_rows_and_events_agree(rig: SqlRig):
    rig.order(("tea", 1), ("tea", 1), ("cup", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(3)
        rig.wait_until_caught_up()
    assert rig.published() == {"tea": [1, 2], "cup": [1]}
    assert rig.table() == {"tea": 2, "cup": 1}


def test_a_failing_event_leaves_no_row_and_is_set_aside_as_it_came(rig: SqlRig):
    rig.order(("tea", 1), ("tea", -1), ("tea", 1))
    rig.send(("tea", b"not json"))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(2)
        wait_until(lambda: len(rig.dead_letters()) == 2, seconds=60, what="two dead letters")
    assert rig.table() == {"tea": 2}
    assert rig.published() == {"tea": [1, 2]}
    rejected, unreadable = rig.dead_letters()
    assert rejected.value() == b'{"product":"tea","quantity":-1}'
    assert dict(rejected.headers() or ())["millstream-dlq-reason"] == b"negative"
    assert (unreadable.key(), unreadable.value()) == (b"tea", b"not json")


def test_an_output_that_kafka_cannot_take_sets_its_whole_event_aside(rig: SqlRig):
    # In JSON its product alone takes more than a record may have; the order just fits.
    rig.order(("x" * 1_000_000, 1), key=False)
    rig.order(("b", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(1)
        wait_until(lambda: len(rig.dead_letters()) == 1, seconds=60, what="a dead letter", every=0.1)
    assert rig.published() == {"b": [1]}
    assert rig.table() == {"b": 1}


def test_a_violated_constraint_is_the_events_own_trouble(rig: SqlRig):
    def double(order: Any, db: Session) -> None:
        if order.quantity == 13:
            db.execute(rig.stock.products.insert().values(product=order.product, number=0))

    rig.stock.trouble = double
    rig.order(("tea", 1), ("tea", 13), ("tea", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(2)
        rig.wait_until_caught_up()
    assert rig.published() == {"tea": [1, 2]}
    (letter,) = rig.dead_letters()
    assert dict(letter.headers() or ())["millstream-dlq-reason"] == IntegrityError.__name__.encode()


def test_what_is_worth_another_try_is_tried_again_and_nothing_is_locked_meanwhile(rig: SqlRig):
    tries: list[int] = []

    def unsettled_twice(order: Any, db: Session) -> None:
        if order.quantity == 2:
            tries.append(order.quantity)
            if len(tries) < 3:
                raise Unsettled("not yet")

    rig.stock.trouble = unsettled_twice
    rig.order(("tea", 1), ("tea", 2), ("tea", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(3)
        rig.wait_until_caught_up()
    assert len(tries) == 3
    assert rig.published() == {"tea": [1, 2, 3]}
    assert rig.dead_letters() == []


def test_stop_means_that_the_event_is_not_passed(cluster: Cluster, tmp_path: Path):
    rig = SqlRig(cluster.bootstrap, tmp_path, on_failure=stop)
    rig.make_topics()
    rig.order(("tea", 1), ("tea", -1), ("tea", 1))
    stopped = Running(rig.worker())
    stopped.wait()
    assert isinstance(stopped.error, Rejected)
    assert rig.table() == {"tea": 1}
    rig.engine.dispose()


def test_a_busy_database_is_waited_for_and_no_event_pays_for_it(cluster: Cluster, tmp_path: Path):
    rig = SqlRig(cluster.bootstrap, tmp_path, database=f"sqlite:///{tmp_path}/impatient.db?timeout=0.05")
    rig.make_topics()
    rig.order(("tea", 1))
    called = threading.Event()
    rig.stock.trouble = lambda order, db: called.set()
    with running(rig.worker()):
        with rig.engine.begin():
            assert not called.wait(0.5)
        rig.wait_until_caught_up()
    assert rig.table() == {"tea": 1}
    with running(rig.relay()):
        rig.wait_until_published(1)
    assert rig.dead_letters() == []
    rig.engine.dispose()


def test_the_database_says_where_to_start_whatever_kafka_says(rig: SqlRig):
    rig.order(("tea", 1), ("tea", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(2)
        rig.wait_until_caught_up()
    with rig.engine.begin() as connection:
        connection.execute(text("DELETE FROM millstream_positions"))
        connection.execute(text("DELETE FROM products"))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(4)
    assert rig.published() == {"tea": [1, 2, 1, 2]}


def test_who_works_from_an_old_position_writes_nothing(rig: SqlRig):
    rig.order(("tea", 1))
    group, partitions = rig.service.group(Kind.SQL), [(rig.stock.orders.name, number) for number in range(2)]
    ids = rig.ids()
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(1)
        with rig.engine.begin() as connection:
            # As another instance would that has done the next order already.
            ((partition, at),) = read_positions(connection, group, partitions, ids).items()
            assert move_positions(connection, group, {partition: at}, {partition: at + 1}, ids)
        rig.order(("tea", 1), ("tea", 1))
        rig.wait_until_published(2)
        rig.wait_until_caught_up()
    assert rig.published() == {"tea": [1, 2]}
    assert rig.table() == {"tea": 2}


def test_who_is_overtaken_over_and_over_takes_itself_for_the_zombie(rig: SqlRig):
    def overtake(order: Any, db: Session) -> None:
        if order.quantity == 2:
            db.execute(text("UPDATE millstream_positions SET next_offset = next_offset + 7"))

    rig.stock.trouble = overtake
    rig.order(("tea", 1))
    with running(rig.worker()):
        rig.wait_until_caught_up()
    rig.order(("tea", 2))
    zombie = Running(rig.worker())
    zombie.wait()
    assert isinstance(zombie.error, Fenced)
    assert rig.table() == {"tea": 1}


def test_at_least_once_commits_first_and_publishes_then(cluster: Cluster, tmp_path: Path):
    rig = SqlRig(cluster.bootstrap, tmp_path, delivery="at_least_once")
    rig.make_topics()
    rig.order(("tea", 1), ("tea", -1), ("cup", 1))
    with running(rig.worker()):
        rig.wait_until_caught_up()
    assert rig.published() == {"tea": [1], "cup": [1]}
    assert rig.table() == {"tea": 1, "cup": 1}
    assert len(rig.dead_letters()) == 1
    with rig.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM millstream_outbox")).scalar_one() == 0
    rig.engine.dispose()


@pytest.mark.slow
@pytest.mark.scenario(12)
def test_killed_again_and_again_it_counts_right(rig: SqlRig, tmp_path: Path):
    random_ = random.Random(11)
    products = [f"product-{number}" for number in range(12)]
    expected: dict[str, int] = dict.fromkeys(products, 0)
    children = [rig.child(tmp_path / f"{slot}.log", slot) for slot in range(2)]
    try:
        for _ in range(6):
            orders = random_.choices(products, k=150)
            for product in orders:
                expected[product] += 1
            rig.order(*[(product, 1) for product in orders])
            time.sleep(random_.uniform(0.1, 0.9))
            victim = random_.randrange(2)
            end(children[victim], how=signal.SIGKILL)
            children[victim] = rig.child(tmp_path / f"{victim}.log", victim)
        rig.wait_until_published(sum(expected.values()), seconds=60)
        rig.wait_until_caught_up()
    finally:
        for child in children:
            end(child, how=signal.SIGKILL)
    assert rig.table() == expected
    assert rig.published() == {product: list(range(1, count + 1)) for product, count in expected.items()}


@pytest.mark.slow
@pytest.mark.scenario(12)
def test_a_broker_that_dies_again_and_again_costs_nothing(kafka: LocalKafka, tmp_path: Path):
    rig = SqlRig(kafka.bootstrap, tmp_path)
    rig.make_topics()
    with running(rig.worker(), rig.relay()):
        for life in range(4):
            rig.order(*[(f"product-{number % 5}", 1) for number in range(200)])
            wait_until(lambda seen=life * 200: sum(rig.table().values()) > seen, seconds=120, what="some orders")
            kafka.kill()
            kafka.restart()
        rig.wait_until_published(800, seconds=60)
        rig.wait_until_caught_up()
    assert rig.table() == {f"product-{number}": 160 for number in range(5)}
    assert rig.published() == {f"product-{number}": list(range(1, 161)) for number in range(5)}
    rig.engine.dispose()


@pytest.mark.parametrize("orders", [1, 5], ids=["fewer", "more"])
def test_a_topic_made_again_while_nobody_looks_is_handled_from_its_start(rig: SqlRig, orders: int):
    rig.order(("tea", 1), ("tea", 1), ("tea", 1))
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(3)
        rig.wait_until_caught_up()
    rig.remake(rig.stock.orders.name)
    rig.order(*[("tea", 1)] * orders)
    with running(rig.worker(), rig.relay()):
        rig.wait_until_published(3 + orders)
        rig.wait_until_caught_up()
    assert rig.published() == {"tea": list(range(1, 4 + orders))}
    assert rig.table() == {"tea": 3 + orders}


def test_a_topic_made_again_under_a_worker_ends_it_and_the_next_handles_all(rig: SqlRig):
    rig.order(("tea", 1), ("tea", 1), ("tea", 1))
    with running(rig.relay()):
        worker = Running(rig.worker())
        rig.wait_until_published(3)
        rig.remake(rig.stock.orders.name)
        rig.order(("tea", 1))
        worker.wait()
        assert isinstance(worker.error, TopicReplaced)
        assert rig.stock.orders.name in str(worker.error)
        with running(rig.worker()):
            rig.wait_until_published(4)
            rig.wait_until_caught_up()
    assert rig.published() == {"tea": [1, 2, 3, 4]}
    assert rig.dead_letters() == []
