"""How long Millstream's processes wait for what does not answer: one table.

Time-outs of single requests stand beside the request; these are the bounds within which silence becomes visible.
"""

OUTAGE_SECONDS = 120.0
"""A worker waits so long for a schema registry or for brokers that do not answer, then ends, and its process with it.

Meanwhile `/health` says 503 and names what is silent, and the worker shows its lag and signs of life. Shorter than
`max.poll.interval.ms`, so that the worker still has its partitions when the answer comes.
"""

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
