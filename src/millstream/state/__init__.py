"""Stores: keyed state that commits with the events that changed it, and is rebuilt from its changelog."""

from millstream.state.internal_store import InternalStore
from millstream.state.memory import MemoryStore, memory
from millstream.state.partitions import StatePartitions

__all__ = ["InternalStore", "MemoryStore", "StatePartitions", "memory"]
