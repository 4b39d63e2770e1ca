"""The workers of Kafka and SQL handlers, as they are in production, in worlds where everything goes wrong."""

import pytest
from tests.testing.simulation.parcels import shop
from tests.testing.simulation.stock import warehouse

from millstream.testing.simulation import CALM, ROUGH

TXN_OFFSET_COMMIT = 28


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.scenario(9)
def test_nothing_is_lost_or_done_twice(seed: int):
    with shop(seed, ROUGH) as parcels:
        parcels.finish()
        parcels.check()


def test_at_least_once_is_caught_doing_things_twice():
    def doubles(seed: int) -> bool:
        with shop(seed, ROUGH, delivery="at_least_once") as parcels:
            parcels.finish()
            return not parcels.right()

    assert any(doubles(seed) for seed in range(10))


def test_an_instance_frozen_between_its_offsets_and_its_records_leaves_no_stale_state():
    with shop(1, CALM, payments=0) as parcels:
        world = parcels.world
        world.until(lambda: len([True for line in world.timeline.splitlines() if "assigned: parcels" in line]) > 1)
        parcels.pay("o-1")
        parcels.finish()

        def freeze_the_owner(api_key: int) -> None:
            if api_key == TXN_OFFSET_COMMIT:
                world.broker.decide_outcome = lambda api_key: None
                last = next(line for line in reversed(world.timeline.splitlines()) if " reads parcels.payments" in line)
                next(each for each in parcels.instances if each.name in last).freeze(8)

        world.broker.decide_outcome = freeze_the_owner
        parcels.pay("o-1")
        world.sleep(7)
        parcels.pay("o-1")
        parcels.finish()
        parcels.check()
        assert "is frozen" in world.timeline


@pytest.mark.parametrize("seed", range(20))
def test_a_database_and_its_outbox_lose_and_double_nothing(seed: int):
    with warehouse(seed, ROUGH) as stock:
        stock.finish()
        stock.check()


def test_a_world_with_databases_has_the_same_timeline_again():
    def timeline(seed: int) -> str:
        with warehouse(seed, ROUGH, orders=40) as stock:
            stock.finish()
            return stock.world.timeline

    assert [timeline(seed) for seed in range(5)] == [timeline(seed) for seed in range(5)]
