"""Streams and tables: windows, joins and aggregates with the semantics of Kafka Streams. docs/streams.md has a table.

topology = Topology()
clicks = topology.stream("clicks")
per_hour = clicks.group_by_key().window(tumbling(timedelta(hours=1))).count(on_close=True)
per_hour.to_stream().to("clicks.per.hour")
"""

from millstream.streams.api import Cogrouped, Grouped, Stream, Table, Topology, WindowedBy
from millstream.streams.records import Record, Windowed
from millstream.streams.windows import hopping, session, sliding, tumbling

__all__ = [
    "Cogrouped",
    "Grouped",
    "Record",
    "Stream",
    "Table",
    "Topology",
    "Windowed",
    "WindowedBy",
    "hopping",
    "session",
    "sliding",
    "tumbling",
]
