"""The positions of a group, in the service's own database so that they commit with what was done.

Each position is moved by compare-and-set: a worker with an older one finds no row to change. That
fences a zombie, and what makes a transaction of handlers happen once.

A position belongs to a topic's id, not to its name: of a topic that was deleted and created again nothing has been
read.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, select

from millstream.kafka.port import TopicPartition
from millstream.runtime.sql.tables import insert_into, positions_table

_at = positions_table.c
# Made once: every transaction of handlers moves every partition that it has read.
_MOVE = (
    positions_table.update()
    .where(_at.group_id == bindparam("of_group"), _at.topic == bindparam("of_topic"))
    .where(_at.topic_id == bindparam("of_id"))
    .where(_at.partition == bindparam("of_partition"), _at.next_offset == bindparam("expected"))
    .values(next_offset=bindparam("to"))
)


def read_positions(
    connection: Connection, group: str, partitions: Iterable[TopicPartition], ids: Mapping[str, str]
) -> dict[TopicPartition, int]:
    """Return the next offset of each of `partitions` of which the group has a position.

    - `ids`: the topics' ids.
    """
    wanted = set(partitions)
    rows = connection.execute(
        select(_at.topic, _at.topic_id, _at.partition, _at.next_offset).where(_at.group_id == group)
    )
    return {
        (topic, partition): offset
        for topic, id, partition, offset in rows
        if (topic, partition) in wanted and id == ids.get(topic, "")
    }


def known_positions(connection: Connection, group: str) -> bool:
    """Return whether the group has any position, of whatever topic."""
    return connection.execute(select(_at.topic).where(_at.group_id == group).limit(1)).first() is not None


def replaced_topics(connection: Connection, group: str, ids: Mapping[str, str]) -> list[str]:
    """Return the topics in `ids` of which the group has positions under another id only."""
    rows = connection.execute(select(_at.topic, _at.topic_id).where(_at.group_id == group).distinct())
    known: dict[str, set[str]] = {}
    for topic, id in rows:
        known.setdefault(topic, set()).add(id)
    return sorted(topic for topic, id in ids.items() if topic in known and id not in known[topic])


def move_position(
    connection: Connection, group: str, partition: TopicPartition, *, expected: int | None, to: int, id: str = ""
) -> bool:
    """Move one position from `expected` (`None`: never moved) to `to`; return False where it is another one.

    - `id`: the topic's.

    After False nothing of this transaction may be committed: another worker has done, or is doing, the same.
    """
    topic, number = partition
    if expected is None:
        row = {"group_id": group, "topic": topic, "topic_id": id, "partition": number, "next_offset": to}
        new = insert_into(positions_table, connection.dialect.name).values(row).on_conflict_do_nothing()
        return connection.execute(new.returning(positions_table.c.next_offset)).first() is not None
    parameters = {
        "of_group": group,
        "of_topic": topic,
        "of_id": id,
        "of_partition": number,
        "expected": expected,
        "to": to,
    }
    return connection.execute(_MOVE, parameters).rowcount == 1


def move_positions(
    connection: Connection,
    group: str,
    expected: Mapping[TopicPartition, int],
    to: Mapping[TopicPartition, int],
    ids: Mapping[str, str],
) -> bool:
    """Move all of `to`, always in the same order, so that two holders never deadlock."""
    return all(
        move_position(connection, group, at, expected=expected.get(at), to=to[at], id=ids.get(at[0], ""))
        for at in sorted(to)
    )


def forget_positions(connection: Connection, group: str) -> None:
    """Delete all positions of the group: it begins at the start of every partition."""
    connection.execute(positions_table.delete().where(positions_table.c.group_id == group))
