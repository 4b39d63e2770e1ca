"""A schema registry with Confluent's REST routes, kept in its broker's `_schemas` topic."""

from millstream.local.http import Limits
from millstream.local.registry.log import Overtaken, TopicLog
from millstream.local.registry.server import Registry, serve

__all__ = ["Limits", "Overtaken", "Registry", "TopicLog", "serve"]
