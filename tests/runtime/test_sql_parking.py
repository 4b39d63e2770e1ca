"""Parked keys, timers and inboxes of SQL handlers, on SQLite and on PostgreSQL."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select
from tests.runtime.remains import Errors, no_collection
from tests.runtime.running import Running
from tests.runtime.sql_rig import SqlRig, running

from millstream.declare import Kind, Retry, exponential, minutes, park_key, stop
from millstream.errors import Rejected
from millstream.runtime.records.redrive import Action
from millstream.runtime.sql.inbox import once
from millstream.runtime.sql.tables import inbox_table
from millstream.runtime.task.invoke import HandlerContext
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.telemetry import metrics
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.postgresql import PostgreSQL

pytestmark = pytest.mark.slow

Make = Callable[..., SqlRig]
UNTIL_MENDED = Retry(attempts=None, backoff=exponential(0.05, limit=0.1), within=minutes(60))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def make(request: pytest.FixtureRequest, shared_kafka: LocalKafka, tmp_path: Path) -> Iterator[Make]:
    database = request.getfixturevalue("server").url if request.param == "postgresql" else None
    made: list[SqlRig] = []

    def make(**options: Any) -> SqlRig:
        rig = SqlRig(shared_kafka.bootstrap, tmp_path, database=database, **options)
        with rig.engine.begin() as connection:
            connection.execute(rig.stock.products.delete())
        rig.make_topics()
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.engine.dispose()


class Broken:
    """Trouble with some products until it is mended."""

    def __init__(self, *products: str, error: Exception | None = None) -> None:
        self.products = set(products)
        self.mended = threading.Event()
        self.met = 0
        self._error = error or TimeoutError("in passing")

    def __call__(self, order: Any, db: Any) -> None:
        if order.product in self.products and not self.mended.is_set():
            self.met += 1
            raise self._error


def wait_for(rig: SqlRig, wanted: dict[str, list[int]], *, reminded: bool = False) -> None:
    try:
        wait_until(lambda: rig.quantities(reminded=reminded) == wanted, seconds=120, what=f"{wanted}", every=0.1)
    except TimeoutError as error:
        raise AssertionError(f"{error}; there is {rig.quantities(reminded=reminded)}") from None


def wait_for_letters(rig: SqlRig, count: int) -> list[Any]:
    wait_until(lambda: len(rig.dead_letters()) >= count, seconds=120, what=f"{count} dead letters", every=0.1)
    return rig.dead_letters()


def wait_for_letter(rig: SqlRig) -> Any:
    (letter,) = wait_for_letters(rig, 1)
    return letter


def redrives_left(rig: SqlRig) -> int:
    redrives, admin = rig.service.redrive_topic(Kind.SQL), rig.kafka.admin()
    try:
        found = admin.group_lag(rig.service.group(Kind.SQL), [redrives])
    finally:
        admin.close()
    return sum(partition.lag for partition in found if partition.topic == redrives)


def test_a_key_that_fails_waits_in_order_while_others_go_on(make: Make):
    rig = make(retry=UNTIL_MENDED)
    rig.stock.trouble = broken = Broken("a")
    rig.order(("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3))
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"b": [1, 2]})
        wait_until(lambda: broken.met > 3, seconds=60, what="some tries")
        assert rig.table() == {"b": 2}
    with running(rig.worker(), rig.relay()):
        rig.order(("a", 4), ("b", 3))
        broken.mended.set()
        wait_for(rig, {"a": [1, 2, 3, 4], "b": [1, 2, 3]})
    assert rig.table() == {"a": 4, "b": 3}
    assert rig.dead_letters() == []


def test_attempts_are_counted_on_after_a_restart(make: Make):
    rig = make(retry=Retry(attempts=6, backoff=exponential(0.3, factor=1)))
    rig.stock.trouble = broken = Broken("a")
    rig.order(("a", 1))
    with running(rig.worker(), rig.relay()):
        wait_until(lambda: broken.met >= 2, seconds=60, what="two tries")
    with running(rig.worker(), rig.relay()):
        letter = wait_for_letter(rig)
    assert broken.met == 6
    assert dict(letter.headers() or ())["millstream-dlq-attempts"] == b"6"


def test_a_held_key_waits_for_a_person(make: Make):
    rig = make(retry=Retry(attempts=1), on_failure=park_key)
    rig.stock.trouble = broken = Broken("a")
    rig.order(("a", 1), ("a", 2), ("b", 1))
    with running(rig.worker(), rig.relay()):
        letter = wait_for_letter(rig)
        wait_for(rig, {"b": [1]})
        assert dict(letter.headers() or ())["millstream-dlq-state"] == b"parked"
        broken.mended.set()
        rig.redrive(letter, value=msgspec.json.encode({"product": "a", "quantity": 10}))
        wait_for(rig, {"a": [10, 2], "b": [1]})


def test_a_held_event_that_is_discarded_lets_its_key_go_on(make: Make):
    rig = make(retry=Retry(attempts=1), on_failure=park_key)
    broken = Broken("a")
    rig.stock.trouble = lambda order, db: broken(order, db) if order.quantity == 1 else None
    rig.order(("a", 1), ("a", 2))
    with running(rig.worker(), rig.relay()):
        rig.redrive(wait_for_letter(rig), Action.DISCARD)
        wait_for(rig, {"a": [2]})


@pytest.mark.parametrize(("action", "wanted"), [(Action.HANDLE, [10, 1, 2]), (Action.DISCARD, [10, 2])])
def test_a_held_event_obeys_a_person_behind_an_older_one_that_was_handed_in_before(
    make: Make, action: Action, wanted: list[int]
):
    rig = make(retry=UNTIL_MENDED, on_failure=park_key)
    older, held = Broken("a"), Broken("a", error=Rejected("odd", "for now"))
    troubles = {10: older, 1: held}
    rig.stock.trouble = lambda order, db: troubles[order.quantity](order, db) if order.quantity in troubles else None
    rig.send(("a", b"junk"))
    rig.order(("a", 1), ("a", 2))
    with running(rig.worker(), rig.relay()):
        unreadable, parked = wait_for_letters(rig, 2)
        assert dict(parked.headers() or ())["millstream-dlq-state"] == b"parked"
        rig.redrive(unreadable, value=msgspec.json.encode({"product": "a", "quantity": 10}))
        wait_until(lambda: older.met > 0, seconds=60, what="the older event to be the first of its key")
        rig.redrive(parked, action)
        wait_until(lambda: redrives_left(rig) == 0, seconds=60, what="the redrive to be taken", every=0.1)
        held.mended.set()
        older.mended.set()
        wait_for(rig, {"a": wanted})
        rig.order(("a", 3))
        wait_for(rig, {"a": [*wanted, 3]})
    assert rig.table() == {"a": len(wanted) + 1}
    assert (held.met, len(rig.dead_letters())) == (1, 2)


def test_a_partition_with_too_much_parked_pauses_until_there_is_room(make: Make):
    rig = make(retry=Retry(attempts=1), on_failure=park_key, max_parked=5)
    rig.stock.trouble = broken = Broken("a")
    others = "bcdefghijklm"
    paused = metrics.PARTITIONS_PAUSED.labels(rig.service.name, "sql")._value
    rig.order(*(("a", number) for number in range(1, 6)))
    with running(rig.worker(), rig.relay()):
        letter = wait_for_letter(rig)
        wait_until(lambda: paused.get() == 1, seconds=60, what="a pause", every=0.1)
        rig.order(*((product, 1) for product in others))
        partitions = {message.key(): message.partition() for message in rig.records(rig.stock.orders.name)}
        free = {product: [1] for product in others if partitions[product.encode()] != partitions[b"a"]}
        wait_for(rig, free)
        broken.mended.set()
        rig.redrive(letter)
        wait_for(rig, {"a": [1, 2, 3, 4, 5]} | {product: [1] for product in others})
    assert 0 < len(free) < len(others), "both partitions have some of the other keys"


def test_stop_stops_at_the_event_and_a_later_life_begins_with_it(make: Make):
    rig = make(retry=Retry(attempts=2, backoff=exponential(0.01)), on_failure=stop)
    rig.stock.trouble = broken = Broken("a")
    rig.order(("b", 1), ("a", 1), ("a", 2))
    stopped = Running(rig.worker())
    stopped.wait(20)
    assert isinstance(stopped.error, TimeoutError)
    broken.mended.set()
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1, 2], "b": [1]})
    assert rig.table() == {"a": 2, "b": 1}


def test_without_a_key_an_event_is_tried_in_place_and_set_aside(make: Make):
    rig = make(retry=Retry(attempts=3, backoff=exponential(0.01)), on_failure=park_key)
    rig.stock.trouble = broken = Broken("a")
    rig.order(("a", 1), key=False)
    with running(rig.worker(), rig.relay()):
        letter = wait_for_letter(rig)
    assert broken.met == 3
    assert "millstream-dlq-state" not in dict(letter.headers() or ())
    assert rig.table() == {}


def test_what_is_no_redrive_is_passed_over_and_counted(make: Make):
    rig = make()
    redrives = rig.service.redrive_topic(Kind.SQL)
    producer = rig.kafka.producer()
    producer.produce(redrives, b"{}", b"a", partition=0)
    producer.flush()
    producer.close()
    passed_over = metrics.EVENTS.labels(rig.service.name, "", redrives, "skipped")._value
    with running(rig.worker(), rig.relay()):
        wait_until(lambda: passed_over.get() == 1, seconds=60, what="it to be passed over")
        rig.order(("a", 1))
        wait_for(rig, {"a": [1]})


def test_killed_again_and_again_parked_keys_keep_their_order(make: Make, tmp_path: Path):
    rig = make(retry=UNTIL_MENDED)
    rig.stock.trouble = broken = Broken("a", "c")
    wanted = {who: list(range(20)) for who in "abcd"}
    rig.order(*((who, number) for number in range(20) for who in "abcd"))
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {who: wanted[who] for who in "bd"})
    for life in range(3):
        # In a child nothing is broken: it begins on what was parked, and dies.
        child = rig.child(tmp_path / f"output-{life}.log")
        before = sum(rig.table().values())
        wait_until(
            lambda before=before: sum(rig.table().values()) > before or before == 80, seconds=120, what="progress"
        )
        end(child)
    broken.mended.set()
    with running(rig.worker(), rig.relay()):
        wait_for(rig, wanted)
    assert rig.table() == dict.fromkeys("abcd", 20)


def test_who_tries_a_key_that_somebody_else_has_by_now_changes_nothing(make: Make):
    rig = make(retry=UNTIL_MENDED)
    rig.stock.trouble = broken = Broken("a")
    rig.order(("a", 1))
    first = rig.worker()
    with running(first, rig.relay()):
        wait_until(lambda: broken.met > 1, seconds=60, what="a try")
    # The other has begun meanwhile, and done what was parked: the state of the first is of the past.
    broken.mended.set()
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1]})
    first._loop.outage.stop = threading.Event()
    first._retry_until_committed(first._do_what_is_due)
    with running(rig.relay()):
        pass
    assert rig.quantities() == {"a": [1]}
    assert rig.table() == {"a": 1}


def test_a_timer_fires_once_after_a_restart_too_and_not_before_its_time(make: Make):
    rig = make()
    with running(rig.worker(), rig.relay()):
        began = time.time()
        rig.order(("a", 1), remind_in=0.5)
        rig.order(("b", 1), remind_in=2.0)
        wait_for(rig, {"a": [1]}, reminded=True)
        assert time.time() >= began + 0.5
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1], "b": [1]}, reminded=True)


def test_stop_stops_at_the_timer_and_a_later_life_begins_with_it(make: Make):
    rig, mended = make(retry=Retry(attempts=1), on_failure=stop), threading.Event()

    def trouble(due: Any, db: Any) -> None:
        if isinstance(due, rig.stock.Remind) and not mended.is_set():
            raise TimeoutError("in passing")

    rig.stock.trouble = trouble
    rig.order(("a", 1), remind_in=0.1)
    stopped = Running(rig.worker())
    stopped.wait(20)
    assert isinstance(stopped.error, TimeoutError)
    mended.set()
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1]}, reminded=True)


@pytest.mark.scenario(15)
def test_an_id_that_was_handled_is_passed_over_within_its_window(make: Make):
    rig = make(inbox=minutes(1))
    rig.order(("a", 1), ("a", 2), id="from-elsewhere")
    rig.order(("b", 1), id="from-elsewhere")
    rig.order(("a", 3))
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1, 3]})
    rig.order(("a", 4), id="from-elsewhere")
    rig.order(("a", 5))
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1, 3, 5]})


def test_ids_whose_window_has_passed_are_forgotten_as_fast_as_they_come(make: Make):
    rig = make(inbox=minutes(1))
    group = rig.service.group(Kind.SQL)
    kept = {"group_id": group, "handler": "reserve", "digest": b"", "until": 1.0}
    old = [{**kept, "identity": str(number)} for number in range(20_000)]
    with rig.engine.begin() as connection:
        connection.execute(inbox_table.insert(), old)

    def left() -> int:
        with rig.engine.connect() as connection:
            return connection.execute(select(func.count()).where(inbox_table.c.group_id == group)).scalar_one()

    with running(rig.worker()):
        wait_until(lambda: left() == 0, seconds=120, what="the old ids to be gone", every=0.1)


def test_a_busy_database_forgets_old_ids_later(shared_kafka: LocalKafka, tmp_path: Path):
    database = f"sqlite:///{tmp_path}/busy.db?timeout=0.01"
    rig = SqlRig(shared_kafka.bootstrap, tmp_path, database=database, inbox=minutes(1))
    rig.make_topics()
    worker = rig.worker()
    with rig.engine.begin(), running(worker, rig.relay()):
        wait_until(lambda: worker._tidy_at > 0, seconds=60, what="a try")
        rig.order(("a", 1))
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1]})
    rig.engine.dispose()


@pytest.mark.real
@pytest.mark.scenario(15)
def test_of_two_transactions_with_one_id_at_once_one_handles_it(
    server: PostgreSQL, shared_kafka: LocalKafka, tmp_path: Path
):
    rig = SqlRig(shared_kafka.bootstrap, tmp_path, database=server.url, inbox=minutes(1))
    (handler,) = [handler for handler in rig.service.handlers if handler.inbox]
    counted, handled = WorkerMetrics(rig.service.name, "group"), []
    call = once(lambda event, meta, given: handled.append(event), "group", handler.name, 60.0, counted)
    both_there = threading.Barrier(2, timeout=10)
    message = SimpleNamespace(topic=lambda: "t", value=lambda: b"the same")

    def handle(name: str) -> None:
        with rig.engine.begin() as connection:
            both_there.wait()
            call(
                name,
                SimpleNamespace(inbox_key=lambda: "shop\ne-1", message=message),
                HandlerContext(connection=connection),
            )

    threads = [threading.Thread(target=handle, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    rig.engine.dispose()
    assert len(handled) == 1


@pytest.mark.scenario(15)
def test_an_id_counts_again_when_its_window_has_passed(make: Make):
    rig = make(inbox=minutes(0.01))
    with running(rig.worker(), rig.relay()):
        rig.order(("a", 1), id="from-elsewhere")
        wait_for(rig, {"a": [1]})
        time.sleep(0.7)  # what passes is the window
        rig.order(("a", 2), id="from-elsewhere")
        wait_for(rig, {"a": [1, 2]})


def test_an_error_that_was_dealt_with_keeps_no_frames_and_their_records(make: Make):
    rig, errors = make(retry=Retry(attempts=3, backoff=exponential(0.01))), Errors()

    def trouble(order: Any, db: Any) -> None:
        raise errors.make()

    rig.stock.trouble = trouble
    rig.order(("a", 1))
    with no_collection(), running(rig.worker(), rig.relay()):
        wait_for_letter(rig)
        errors.wait_until_gone()
    assert errors.count == 3


@pytest.mark.scenario(15)
def test_one_id_of_two_sources_is_two_events(make: Make, caplog: pytest.LogCaptureFixture):
    rig = make(inbox=minutes(1))
    for id, source, quantity in (("1", "/shops/north", 1), ("1", "/shops/south", 2), ("2", "/shops/south", 3)):
        headers = [("ce_id", id.encode()), ("ce_source", source.encode())]
        rig.send(*[("a", msgspec.json.encode({"product": "a", "quantity": quantity}))] * 2, headers=headers)
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1, 2, 3]})
        assert "inbox_unlike_duplicate" not in caplog.text
        rig.order(("a", 4), id="1", source=b"/shops/north")
        rig.order(("a", 5))
        wait_for(rig, {"a": [1, 2, 3, 5]})
    ids = [dict(message.headers() or ())["ce_id"] for message in rig.records(rig.stock.reserved.name)]
    assert len(set(ids)) == 4, "nor do the events that come of them share an id"
    assert "inbox_unlike_duplicate" in caplog.text


def test_a_declared_identity_tells_rows_of_a_snapshot_apart(make: Make):
    rig = make(inbox=minutes(1), identity=("product", "quantity"))
    snapshot = [("ce_id", b"name:shop;lsn:1;txId:1"), ("ce_source", b"/debezium/postgresql/shop")]
    rows = [("a", msgspec.json.encode({"product": "a", "quantity": quantity})) for quantity in (1, 2, 3)]
    rig.send(*rows, *rows, headers=snapshot)
    with running(rig.worker(), rig.relay()):
        wait_for(rig, {"a": [1, 2, 3]})
    ids = [dict(message.headers() or ())["ce_id"] for message in rig.records(rig.stock.reserved.name)]
    assert len(set(ids)) == 3
