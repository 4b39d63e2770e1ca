"""A schema registry with Confluent's REST routes for Avro, kept in its broker's `_schemas` topic."""

from millstream.local.registry.log import TopicLog
from millstream.local.registry.server import Registry, serve

__all__ = ["Registry", "TopicLog", "serve"]
