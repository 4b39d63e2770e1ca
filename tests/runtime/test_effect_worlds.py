"""Effects that fail, in worlds where everything goes wrong: instances die and freeze, brokers and networks fail."""

import pytest
from tests.runtime.effect_world import till

from millstream.testing.simulation import ROUGH

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(30))
def test_each_charge_has_one_outcome_in_the_order_of_its_card(seed: int):
    with till(seed, ROUGH) as payments:
        payments.finish()
        payments.check()


def test_a_world_with_effects_has_the_same_timeline_again():
    def timeline(seed: int) -> str:
        with till(seed, ROUGH, charges=40) as payments:
            payments.finish()
            return payments.world.timeline

    assert [timeline(seed) for seed in range(5)] == [timeline(seed) for seed in range(5)]
