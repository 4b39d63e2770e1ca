"""The temperature pipeline: a week of real dirt, and devices that send some of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.running import Running, eventually

from millstream.testing.apache import ApacheKafka
from temperature.pipeline import readings

DATA = Path(__file__).parents[3] / "shared" / "data"
SENSORS = DATA / "sensors-mixed.txt.gz"
TRUTH = DATA / "sensors-mixed.truth.json"
pytestmark = pytest.mark.timeout(1200)
needs_data = pytest.mark.skipif(not SENSORS.exists(), reason=f"the sensors' week is not at {SENSORS}")


def check_replay(running: Running) -> None:
    replay = running.run("temperature", "replay", str(SENSORS), "--json", timeout=1000)
    assert replay.returncode == 0, f"{replay.stderr}\n{running.story()}"
    outcome: dict[str, Any] = json.loads(replay.stdout)
    truth = json.loads(TRUTH.read_text())
    assert outcome == {
        "lines": truth["lines"],
        "accepted": truth["valid"],
        "rejected": truth["rejected"],
        "reasons": truth["rejected_by_reason"],
    }


@needs_data
@pytest.mark.slow
def test_a_week_of_sensors_agrees_with_the_truth(tmp_path: Path):
    with Running(tmp_path / "temperature", "--system", "temperature.system:system") as running:
        check_replay(running)


@needs_data
@pytest.mark.long
def test_a_week_of_sensors_agrees_on_apache_kafka(tmp_path: Path, apache_kafka: ApacheKafka, apache_registry: str):
    cluster = ["--bootstrap-servers", apache_kafka.bootstrap, "--registry", apache_registry]
    with Running(tmp_path / "temperature", "--system", "temperature.system:system", *cluster) as running:
        check_replay(running)


@pytest.mark.slow
def test_devices_show_deliveries_and_their_readings_arrive(tmp_path: Path):
    with Running(tmp_path / "temperature", "--system", "temperature.system:system") as running:
        simulated = running.run("temperature", "simulate", "--count", "30", "--rate", "200", "--malformed", "0")
        assert simulated.returncode == 0, simulated.stderr
        deliveries = [line for line in simulated.stdout.splitlines() if "✓ sensor.temperature[" in line]
        assert len(deliveries) == 30

        from sqlalchemy import create_engine, func, select

        engine = create_engine(f"sqlite:///{running.data / 'services' / 'analytics.db'}")

        def all_there() -> bool:
            with engine.connect() as connection:
                count, wrong = connection.execute(
                    select(
                        func.count(),
                        func.sum(func.abs(readings.c.fahrenheit - (readings.c.celsius * 1.8 + 32)) > 0.001),
                    )
                ).one()
            assert not wrong
            return count == 30

        eventually(all_there)
        engine.dispose()
