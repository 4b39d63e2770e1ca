"""The partition of a key."""


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key among so many, as every producer of the house, and Java's, chooses it.

    >>> partition_of("o-2", 6)
    3
    """
    from confluent_kafka.cimpl import murmur2  # with the first client, not before

    return murmur2(key.encode(), partitions)
