from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operate.dlq.rig import LettersRig

from millstream.testing.local import LocalKafka


@pytest.fixture
def rig(shared_kafka: LocalKafka, tmp_path: Path) -> Iterator[LettersRig]:
    made = LettersRig(shared_kafka.bootstrap, shared_kafka.registry, tmp_path)
    yield made
    made.close()
