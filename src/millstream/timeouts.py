"""How long Millstream's processes wait for what does not answer: one table.

Time-outs of single requests stand beside the request; these are the bounds within which silence becomes visible.
"""

OUTAGE_SECONDS = 120.0
"""A worker waits so long for a schema registry or for brokers that do not answer, then ends, and its process with it.

Meanwhile `/health` says 503 and names what is silent, and the worker shows its lag and signs of life. It does not poll,
so a short `max.poll.interval.ms` shortens this: see `POLL_SHARE`.
"""

POLL_SHARE, LEAST_POLL_SHARE, REQUEST_POLL_SHARE = 0.5, 0.1, 0.25
"""Parts of `max.poll.interval.ms`, after which a group puts out a member that does not poll: how long after its last
poll a worker may still wait for a registry or for brokers; how long it may in any case, where its handlers have taken
most of that time; and how long one question to the registry may take, all its tries together."""

OUTAGE_PAUSES = (0.1, 5.0)
"""Seconds between two tries in an outage; doubling from the first to the last."""

PROBE_SECONDS = 5.0
"""After a broken connection, how often an idle worker asks whether brokers answer."""

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
