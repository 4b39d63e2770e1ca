"""The two assignors that the port uses, and the encodings of the consumer protocol."""

import struct
from typing import NamedTuple

from millstream.kafka.port import TopicPartition
from millstream.testing.simulation.cluster.clients.client import by_topic


class Subscriber(NamedTuple):
    """A member as its leader sees it. `name`: what members are sorted by, its instance or else its id."""

    member_id: str
    name: str
    topics: tuple[str, ...]
    owned: tuple[TopicPartition, ...]


Assignment = dict[str, list[TopicPartition]]
"""By member id."""


def ranges(members: list[Subscriber], counts: dict[str, int]) -> Assignment:
    """Assign a range of each topic to every member, in the same order for all topics: equal numbers come together.

    >>> members = [Subscriber(name, name, ("a", "b"), ()) for name in ("m1", "m2")]
    >>> ranges(members, {"a": 3, "b": 2})["m2"]
    [('a', 2), ('b', 1)]
    """
    assigned: Assignment = {member.member_id: [] for member in members}
    for topic, count in sorted(counts.items()):
        readers = sorted((member for member in members if topic in member.topics), key=lambda member: member.name)
        start = 0
        for number, member in enumerate(readers):
            size = count // len(readers) + (number < count % len(readers))
            assigned[member.member_id] += [(topic, index) for index in range(start, start + size)]
            start += size
    return assigned


def sticky(members: list[Subscriber], counts: dict[str, int]) -> Assignment:
    """Leave members what they own as far as that is fair. What moves is unassigned until its owner has given it up.

    >>> members = [Subscriber("m1", "m1", ("a",), (("a", 0), ("a", 1))), Subscriber("m2", "m2", ("a",), ())]
    >>> sticky(members, {"a": 2})
    {'m1': [('a', 0)], 'm2': []}
    """
    members = sorted(members, key=lambda member: member.name)
    owners: dict[TopicPartition, str] = {}
    for member in members:
        for partition in member.owned:
            owners.setdefault(partition, member.member_id)
    wanted: Assignment = {member.member_id: [] for member in members}
    readers = {topic: [member.member_id for member in members if topic in member.topics] for topic in counts}
    everything = [(topic, index) for topic in sorted(counts) if readers[topic] for index in range(counts[topic])]
    limit = -(-len(everything) // len(members))
    free: list[TopicPartition] = []
    for partition in everything:
        owner = owners.get(partition)
        keeps = owner is not None and owner in readers[partition[0]] and len(wanted[owner]) < limit
        if keeps and owner is not None:
            wanted[owner].append(partition)
        else:
            free.append(partition)
    for partition in free:
        wanted[min(readers[partition[0]], key=lambda member: len(wanted[member]))].append(partition)
    _even_out(wanted, readers)
    return {
        member: [partition for partition in partitions if owners.get(partition, member) == member]
        for member, partitions in wanted.items()
    }


def _even_out(wanted: Assignment, readers: dict[str, list[str]]) -> None:
    """Move partitions until no member has two more than another that could read one of them."""
    while True:
        for most in sorted(wanted, key=lambda member: -len(wanted[member])):
            for partition in reversed(wanted[most]):
                least = min(readers[partition[0]], key=lambda member: len(wanted[member]))
                if len(wanted[most]) - len(wanted[least]) > 1:
                    wanted[most].remove(partition)
                    wanted[least].append(partition)
                    break
            else:
                continue
            break
        else:
            return


def write_subscription(topics: list[str], owned: list[TopicPartition]) -> bytes:
    """Write the metadata that a member joins with, in version 1."""
    out = struct.pack(">hi", 1, len(topics))
    for topic in topics:
        out += _text(topic)
    return out + struct.pack(">i", -1) + _partitions(owned)


def read_subscription(data: bytes) -> tuple[tuple[str, ...], tuple[TopicPartition, ...]]:
    """Read the topics and the owned partitions of a member."""
    (count,), at = struct.unpack_from(">i", data, 2), 6
    topics: list[str] = []
    for _ in range(count):
        topic, at = _read_text(data, at)
        topics.append(topic)
    at += 4 + max(0, struct.unpack_from(">i", data, at)[0])
    return tuple(topics), tuple(_read_partitions(data, at))


def write_assignment(partitions: list[TopicPartition]) -> bytes:
    """Write the partitions that a member is assigned."""
    return struct.pack(">h", 0) + _partitions(partitions) + struct.pack(">i", -1)


def read_assignment(data: bytes) -> list[TopicPartition]:
    """Read the partitions that a member is assigned; no bytes are none."""
    return _read_partitions(data, 2) if data else []


def _partitions(partitions: list[TopicPartition]) -> bytes:
    topics = by_topic(dict.fromkeys(partitions, 0))
    out = struct.pack(">i", len(topics))
    for topic, entries in topics.items():
        out += _text(topic) + struct.pack(f">i{len(entries)}i", len(entries), *(index for index, _ in entries))
    return out


def _read_partitions(data: bytes, at: int) -> list[TopicPartition]:
    (count,), at = struct.unpack_from(">i", data, at), at + 4
    found: list[TopicPartition] = []
    for _ in range(count):
        topic, at = _read_text(data, at)
        (size,) = struct.unpack_from(">i", data, at)
        found += [(topic, index) for index in struct.unpack_from(f">{size}i", data, at + 4)]
        at += 4 + 4 * size
    return found


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + size].decode(), at + 2 + size
