"""The fuzzer's quick part: what one seed draws, and what it once found. `make fuzz` is the long one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.findings import Findings, feed_drawn, read, replay
from tests.fuzz.target import complaints_are_findings

SEED, STREAMS = 3, 2500
FOUND = sorted((Path(__file__).parent / "regressions").glob("*.streams"))


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with complaints_are_findings():
        yield


def test_drawn_streams_are_answered_or_refused_and_nothing_else(tmp_path: Path):
    findings = Findings(tmp_path)
    feed_drawn(findings, SEED, STREAMS)
    assert not findings.places, f"`python -m tests.fuzz --replay` shows each: {findings.places}"


@pytest.mark.parametrize("finding", FOUND, ids=lambda path: path.stem)
def test_what_was_found_once_is_mended(finding: Path):
    replay(read(finding))
