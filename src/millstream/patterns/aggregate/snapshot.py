"""Snapshots: the state that is kept of each key beside its events."""

from typing import Any

from millstream.declare import Value
from millstream.declare.contract import ValueMeta


def snapshot_class(aggregate: type[Value]) -> Any:
    """The class of an aggregate's snapshots, which has a schema of its own.

    A snapshot is the `state` of one key after `version` events that changed it; the last has the id `last_event_id`.
    """
    fields = {"state": aggregate, "version": int, "last_event_id": str}
    body = {"__annotations__": fields, "__module__": aggregate.__module__}
    return ValueMeta(f"{aggregate.__name__}Snapshot", (Value,), body, namespace=aggregate.__namespace__)
