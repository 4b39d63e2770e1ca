"""A Kafka broker for one machine: durable, correct, never clustered.

`Broker` is the core, without sockets and without a clock; `Server` puts it on a TCP port; `TopicLog` reads and writes
its topics from the same process.
"""

from millstream.local.broker.core import Broker, Options
from millstream.local.broker.errors import DataError, Refused
from millstream.local.broker.server import Server, wall_clock
from millstream.local.broker.topic_log import TopicLog

__all__ = ["Broker", "DataError", "Options", "Refused", "Server", "TopicLog", "wall_clock"]
