"""Stores: keyed state that commits with the events that changed it, and is rebuilt from its changelog."""

from millstream.state.kept import Kept
from millstream.state.memory import MemoryStore, memory
from millstream.state.partitions import StatePartitions

__all__ = ["Kept", "MemoryStore", "StatePartitions", "memory"]
