"""A week of a real retailer, on the local platform: every figure agrees with the truth file."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.running import Running

DATA = Path(__file__).parents[3] / "shared" / "data"
ORDERS = DATA / "orders-sample.csv.gz"
TRUTH = DATA / "orders-sample.truth.json"
pytestmark = pytest.mark.timeout(900)
needs_data = pytest.mark.skipif(not ORDERS.exists(), reason=f"the retailer's week is not at {ORDERS}")


def check_replay(running: Running, *options: str, timeout: float = 600) -> dict[str, Any]:
    """Replays the week and holds the outcome against the truth file."""
    replay = running.run("orders", "replay", str(ORDERS), "--url", running.url, "--json", *options, timeout=timeout)
    assert replay.returncode == 0, f"{replay.stdout}\n{replay.stderr}\n{running.story()}"
    outcome = json.loads(replay.stdout.splitlines()[-1])
    hold_against_the_truth(outcome, *options)
    return outcome


def hold_against_the_truth(outcome: dict[str, Any], *options: str) -> None:
    """Every order has ended, and every figure is the truth file's."""
    assert outcome["invoices"] == 894
    assert outcome["open"] == 0
    assert (outcome["returned"], outcome["refused"]) == (121, 46)
    truth = json.loads(TRUTH.read_text())
    if "--scarce" in options:
        assert outcome["cancelled"] > 0
        assert outcome["completed"] + outcome["cancelled"] == 727
    else:
        assert (outcome["completed"], outcome["cancelled"]) == (727, 0)
        assert Decimal(outcome["revenue"]) == Decimal(truth["non_cancelled"]["revenue"])
    assert Decimal(outcome["refunds"]) == -Decimal(truth["cancelled"]["revenue"])


@pytest.mark.slow
@needs_data
def test_the_week_agrees_with_the_truth(fresh: Running):
    outcome = check_replay(fresh)
    assert outcome["mails_duplicated"] == 0


@needs_data
@pytest.mark.slow
@pytest.mark.scenario(20)
def test_a_scarce_week_is_compensated(fresh: Running):
    check_replay(fresh, "--scarce")


@needs_data
@pytest.mark.real
@pytest.mark.parametrize("apache_kafka", [3], indirect=True, ids=["three-nodes"])
def test_the_week_agrees_on_apache_kafka(tmp_path: Path, apache_kafka: object, apache_registry: str):
    bootstrap = str(apache_kafka.bootstrap)  # pyright: ignore[reportAttributeAccessIssue] the plugin's handle
    arguments = ["--bootstrap-servers", bootstrap, "--registry", apache_registry]
    with Running(tmp_path / "orders", *arguments) as running:
        outcome = check_replay(running)
        assert outcome["mails_duplicated"] == 0
