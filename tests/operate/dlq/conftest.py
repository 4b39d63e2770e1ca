from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operate.dlq.rig import DlqRig

from millstream.testing.local import LocalKafka


@pytest.fixture
def rig(shared_kafka: LocalKafka, tmp_path: Path) -> Iterator[DlqRig]:
    made = DlqRig(shared_kafka.bootstrap, shared_kafka.registry, tmp_path)
    yield made
    made.close()
