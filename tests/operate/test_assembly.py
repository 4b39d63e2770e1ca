"""What one process of a service consists of."""

from pathlib import Path

import pytest
from tests.runtime.sql_rig import SqlRig

from millstream.operate.assembly import assemble_handlers
from millstream.settings import load_settings
from millstream.telemetry import Health, Tracer
from millstream.testing.local import LocalKafka


@pytest.mark.parametrize(("relay", "runs"), [("true", True), ("false", False)])
def test_a_relay_runs_unless_somebody_else_publishes_the_outbox(
    relay: str, runs: bool, shared_kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MILLSTREAM_RELAY", relay)
    rig = SqlRig(shared_kafka.bootstrap, tmp_path)
    settings = load_settings(bootstrap_servers=shared_kafka.bootstrap, data_dir=tmp_path)
    workers, late = assemble_handlers(
        rig.service, settings, rig.contracts, rig.kafka, lambda: rig.engine, health=Health(), tracer=Tracer()
    )
    rig.engine.dispose()
    assert [worker.name for worker in workers] == [f"{rig.service.name}.sql"]
    assert [worker.name for worker in late] == [f"{rig.service.name}.relay"] * runs
