"""How far a group has come, kept in the service's own database so that it commits with what was done.

Each position is moved by compare-and-set: whoever worked from an older one finds no row to change. That is what
fences a zombie, and what makes a transaction of handlers happen once.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, select

from millstream.kafka.port import TopicPartition
from millstream.runtime.tables import positions_table
from millstream.runtime.upsert import insert_into

_at = positions_table.c
# Made once: every transaction of handlers moves every partition that it has read.
_MOVE = (
    positions_table.update()
    .where(_at.group_id == bindparam("of_group"), _at.topic == bindparam("of_topic"))
    .where(_at.partition == bindparam("of_partition"), _at.next_offset == bindparam("expected"))
    .values(next_offset=bindparam("to"))
)


def read_positions(
    connection: Connection, group: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offset of each of `partitions` that the group has ever moved past."""
    wanted = set(partitions)
    rows = connection.execute(
        select(positions_table.c.topic, positions_table.c.partition, positions_table.c.next_offset).where(
            positions_table.c.group_id == group
        )
    )
    return {(topic, partition): offset for topic, partition, offset in rows if (topic, partition) in wanted}


def move_position(
    connection: Connection, group: str, partition: TopicPartition, *, expected: int | None, to: int
) -> bool:
    """Moves one position from `expected` (`None`: never moved) to `to`; False where it stands elsewhere.

    After False nothing of this transaction may be committed: somebody else has done, or is doing, the same work.
    """
    topic, number = partition
    if expected is None:
        row = {"group_id": group, "topic": topic, "partition": number, "next_offset": to}
        new = insert_into(positions_table, connection.dialect.name).values(row).on_conflict_do_nothing()
        return connection.execute(new.returning(positions_table.c.next_offset)).first() is not None
    told = {"of_group": group, "of_topic": topic, "of_partition": number, "expected": expected, "to": to}
    return connection.execute(_MOVE, told).rowcount == 1


def move_positions(
    connection: Connection, group: str, expected: Mapping[TopicPartition, int], to: Mapping[TopicPartition, int]
) -> bool:
    """Moves all of `to`, always in the same order, so that two holders never wait for each other in a circle."""
    return all(
        move_position(connection, group, partition, expected=expected.get(partition), to=to[partition])
        for partition in sorted(to)
    )


def forget_positions(connection: Connection, group: str) -> None:
    """The group begins anew in every partition."""
    connection.execute(positions_table.delete().where(positions_table.c.group_id == group))
