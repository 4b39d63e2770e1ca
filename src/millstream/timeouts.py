"""Bounds of every wait of Millstream's processes: one table, all values in seconds.

How often something is looked at or reported stands beside the code that does it.
"""

from typing import NamedTuple


class Pauses(NamedTuple):
    """The waits between tries of what may succeed later: doubling from the first to the last."""

    first: float
    last: float

    def after(self, pause: float) -> float:
        """Return the wait that follows a wait of `pause` seconds.

        >>> Pauses(0.1, 5.0).after(0.1), Pauses(0.1, 5.0).after(4.0)
        (0.2, 5.0)
        """
        return min(self.last, 2 * pause)


# Silence: brokers and registry

OUTAGE_SECONDS = 120.0
"""A worker waits so long for a schema registry or for brokers that do not answer, then ends, and its process with it.

Meanwhile `/health` says 503 and names what is silent, and the worker shows its lag and signs of life. It does not poll,
so a short `max.poll.interval.ms` shortens this: see `POLL_SHARE`.
"""

POLL_SHARE, LEAST_POLL_SHARE, REQUEST_POLL_SHARE = 0.5, 0.1, 0.25
"""Parts of `max.poll.interval.ms`, after which a group puts out a member that does not poll: how long after its last
poll a worker may still wait for a registry or for brokers; how long it may in any case, where its handlers have taken
most of that time; and how long one question to the registry may take, all its tries together."""

OUTAGE_PAUSES = Pauses(0.1, 5.0)
"""Between two tries in an outage."""

PROBE_SECONDS = 5.0
"""After a broken connection, how often an idle worker asks whether brokers answer."""

PROBE_TIMEOUT = 1.0
"""For an answer to that question."""

# Hangs: the watchdog

SILENT_SECONDS = 120.0
"""A worker whose loop has not turned for so long is named in the log, in `/health` and in the metric."""

HUNG_SECONDS = 300.0
"""A worker whose loop has not turned for so long ends its process with exit code 4: by then, as `max.poll.interval.ms`
says, the group has given its partitions to others. A longer `max.poll.interval.ms` moves this bound, too."""

NATIVE_GRACE_SECONDS = 10.0
"""The same as `SILENT_SECONDS` for a call into librdkafka: so long after the time-out that the call was given."""

NATIVE_HUNG_SECONDS = 40.0
"""The same as `HUNG_SECONDS` for a call into librdkafka: so long after the time-out that the call was given."""

LOOK_SECONDS = 2.0
"""How often the watchdog looks."""

# Requests to brokers and to the registry

REQUEST_TIMEOUT = 10.0
"""For one question to brokers, or one offset commit."""

CHANGE_TIMEOUT = 30.0
"""For topics to be created, deleted or extended, for a producer to begin, and for what is produced to be written."""

CLOSE_TIMEOUT = 5.0
"""For a consumer or producer to close."""

READ_TIMEOUT = 60.0
"""Without any record, for a topic to be read to its end."""

OPEN_TRANSACTION_TIMEOUT = 60.0
"""For a transaction that another process left open: longer than brokers let it stay open."""

FULL_QUEUE_TIMEOUT = 30.0
"""For room in the queue of a producer, before `produce` gives up."""

NEW_TOPIC_TIMEOUT = 2.0
"""For all brokers of a cluster to know a topic, before it counts as missing."""

MISSING_TOPIC_TIMEOUT = 5.0
"""The same for a topic that is consumed."""

MEMBERS_TIMEOUT = 5.0
"""For a group to say who its members are."""

MEMBERSHIP_GRACE = 5.0
"""Beyond a session, for the membership of a process that died to end, before another process counts as its holder."""

REGISTRY_REQUEST_TIMEOUT = 3.0
"""For one request to the registry."""

REGISTRY_TIMEOUT = 10.0
"""For all tries of one question to the registry."""

REGISTRY_PAUSES = Pauses(0.05, 1.0)
"""Between two tries of a question to the registry."""

START_TIMEOUT = 30.0
"""For registry and brokers, when a process starts."""

# Handlers

SQLITE_BUSY_TIMEOUT = 10
"""For another SQLite writer, before a statement fails."""

SLOT_TIMEOUT = 10.0
"""For another process of this machine to leave its slot."""

OFFSET_REPORT_TIMEOUT = 2.0
"""For one report of offsets that stand in the database: the next report repeats it."""

DATABASE_PAUSES = Pauses(0.05, 3.0)
"""Between two tries of a database transaction."""

RELAY_PAUSES = Pauses(0.05, 2.0)
"""Between two tries of the relay, while Kafka or the database does not answer."""

COMMIT_PAUSES = Pauses(0.02, 1.0)
"""Between two tries of a transaction with the outcomes of effects."""

RESOURCE_TIMEOUT = 30.0
"""For a resource of effects to open."""

OBEY_TIMEOUT = 5.0
"""For an effect that was cancelled to end, before a line in the log says that it does not."""

MEMBER_TIMEOUT = 10.0
"""For the thread that polls to answer the one that commits: far more than a poll takes."""

# Ends: each is part of the time that the supervisor gives a process

CALLS_FINISH_TIMEOUT = 3.0
"""For calls of effects under way, when their partition or their process goes."""

CALLS_SETTLE_TIMEOUT = 5.0
"""For their outcomes to be committed then."""

WORKERS_STOP_TIMEOUT = 3.0
"""For the workers of a process to end."""

LATE_STOP_TIMEOUT = 1.5
"""For what ends after them: relay and publisher."""

PROCESS_STOP_TIMEOUT = 4.0
"""For a process of `millstream up` to end."""

PLATFORM_STOP_TIMEOUT = 1.5
"""For the local platform, which ends last."""

SPANS_CLOSE_TIMEOUT = 3.0
"""For the last spans to be exported."""

# Processes of `millstream up`

RESTART_PAUSES = Pauses(0.1, 5.0)
"""Until a process that died starts again."""

HEALTH_TIMEOUT = 1.0
"""For `/health` of a process to answer."""

# Commands

ANSWER_TIMEOUT = 5.0
"""For the first answer of a broker."""

DEAD_LETTERS_TIMEOUT = 30.0
"""Without any record, for dead letters to be read."""

SEED_TIMEOUT = 300.0
"""For one seed of a simulation, in real seconds."""

# HTTP

PUBLISH_TIMEOUT = 5.0
"""For a request to be published, so that no client notices a broker that restarts."""

PUBLISHER_REQUEST_TIMEOUT = 2.0
"""For brokers, when the publisher begins or aborts a transaction."""

PUBLISHER_COMMIT_TIMEOUT = 10.0
"""For the transaction of a group of requests to be committed."""

DRAIN_TIMEOUT = 2.0
"""For the rest of a body that is refused, so that its sender can read the answer instead of a reset."""

GRACEFUL_TIMEOUT = 2
"""For requests under way, once the process was told to stop."""

# Aggregates

HISTORY_TIMEOUT = 10.0
"""For the history of an aggregate to be read."""

LEAVE_TIMEOUT = 60.0
"""For a service to leave its group, before its aggregates are built again."""
