"""A recorded file through the pipeline, and what became of it."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
from sqlalchemy import and_, func, or_, select
from sqlalchemy.exc import OperationalError

from millstream.contracts import Contracts
from millstream.errors import Unavailable
from millstream.kafka import Admin, Kafka, TopicPartition, headers_of
from millstream.runtime.records.dead_letter import PREFIX
from millstream.runtime.sql.database import READ_ONLY, open_engine
from millstream.settings import Settings
from temperature.contracts import sensor_temperature
from temperature.lines import read_lines, report_of
from temperature.pipeline import analytics, readings
from temperature.sending import Sender

Progress = Callable[[str, int, int], None]
"""Told of a stage's name, how much of it is done, and how much there is."""

_GROUP = "analytics-group"


class Outcome(msgspec.Struct, frozen=True):
    """What became of the lines of one replay."""

    lines: int
    accepted: int
    rejected: int
    reasons: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether each line was either accepted or rejected."""
        return self.accepted + self.rejected == self.lines


def replay(
    path: Path,
    kafka: Kafka,
    admin: Admin,
    contracts: Contracts,
    settings: Settings,
    *,
    patience: float,
    progress: Progress,
) -> Outcome:
    """Sends every line of `path`, waits until the pipeline has handled them, and counts.

    - `patience`: seconds without any progress of the pipeline after which it is given up.

    Raises `Unavailable` when brokers or the pipeline stand still.
    """
    partitions = [(sensor_temperature.name, number) for number in range(sensor_temperature.partitions)]
    dead = [(sensor_temperature.dead_letters, number) for number in range(sensor_temperature.partitions)]
    begun, dead_begun = admin.end_offsets(partitions), admin.end_offsets(dead)
    lines = _send(kafka, contracts, read_lines(path), progress)
    ended = admin.end_offsets(partitions)
    _wait(admin, ended, lines, patience, progress)
    reasons = _reasons(kafka, dead_begun)
    return Outcome(lines, _accepted(settings, begun, ended), sum(reasons.values()), dict(reasons.most_common()))


def _send(kafka: Kafka, contracts: Contracts, lines: Iterable[str], progress: Progress) -> int:
    sent = 0
    with Sender(kafka, contracts) as sender:
        for line in lines:
            sender.send(report_of(line))
            sent += 1
            if sent % 2_000 == 0:
                progress("sent", sent, 0)
    progress("sent", sent, sent)
    return sent


def _wait(admin: Admin, ended: Mapping[TopicPartition, int], lines: int, patience: float, progress: Progress) -> None:
    least, since = -1, time.monotonic()
    while True:
        committed = admin.group_offsets(_GROUP)
        waiting = sum(
            end - ((found.offset or 0) if (found := committed.get(partition)) else 0)
            for partition, end in ended.items()
        )
        progress("handled", max(0, lines - waiting), lines)
        if waiting <= 0:
            return
        if waiting != least:
            least, since = waiting, time.monotonic()
        elif time.monotonic() - since > patience:
            raise Unavailable(
                f"{waiting} readings wait and nothing has moved for {patience:g} s. Is the pipeline running? "
                "Start it with: millstream up --system temperature.system:system"
            )
        time.sleep(0.2)  # between two looks; what is waited for is the group's progress


def _reasons(kafka: Kafka, begun: Mapping[TopicPartition, int]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for batch in kafka.read_to_end(sensor_temperature.dead_letters, start=begun):
        for message in batch:
            reason = dict(headers_of(message)).get(f"{PREFIX}reason") or b"unknown"
            reasons[reason.decode(errors="replace")] += 1
    return reasons


def _accepted(settings: Settings, begun: Mapping[TopicPartition, int], ended: Mapping[TopicPartition, int]) -> int:
    mine = or_(
        *(
            and_(readings.c.partition == number, readings.c.offset >= begun[topic, number], readings.c.offset < end)
            for (topic, number), end in ended.items()
        )
    )
    engine = open_engine(settings.database(analytics.name)).execution_options(**READ_ONLY)
    try:
        with engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(readings).where(mine)).scalar_one()
    except OperationalError as error:
        raise Unavailable(
            f"The analytics table is not there ({engine.url.render_as_string(hide_password=True)}). "
            "Run this in the folder where the pipeline runs, or set MILLSTREAM_DATABASE_URL as it has it."
        ) from error
    finally:
        engine.dispose()
