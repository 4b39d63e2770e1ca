"""Declarations: pure, without I/O. What a system is made of, said once."""

from millstream.declare.contract import Command, Contract, Event, Value, full_name, key_field, key_of
from millstream.declare.deleted import Deleted, deleted_class
from millstream.declare.durations import days, hours, minutes, seconds
from millstream.declare.envelope import Call, Envelope
from millstream.declare.failure import Backoff, OnFailure, Retry, dead_letter, exponential, park_key, stop
from millstream.declare.foreign import EpochMicros, EpochMillis, EpochSeconds, FromNumber, FromText, LocalAsUtc
from millstream.declare.handler import Handler, Kind, Need, Parameter
from millstream.declare.notes import Alias, Deprecated, Doc, Number
from millstream.declare.personal import Personal
from millstream.declare.scale import Scale
from millstream.declare.service import Delivery, Service
from millstream.declare.store import State, Store
from millstream.declare.system import Sandbox, System, load
from millstream.declare.timer import Timer, Timers
from millstream.declare.topic import FOREVER, Topic, home_of, tombstone_of
from millstream.declare.upcast import Upcaster, upcasts

__all__ = [
    "FOREVER",
    "Alias",
    "Backoff",
    "Call",
    "Command",
    "Contract",
    "Deleted",
    "Delivery",
    "Deprecated",
    "Doc",
    "Envelope",
    "EpochMicros",
    "EpochMillis",
    "EpochSeconds",
    "Event",
    "FromNumber",
    "FromText",
    "Handler",
    "Kind",
    "LocalAsUtc",
    "Need",
    "Number",
    "OnFailure",
    "Parameter",
    "Personal",
    "Retry",
    "Sandbox",
    "Scale",
    "Service",
    "State",
    "Store",
    "System",
    "Timer",
    "Timers",
    "Topic",
    "Upcaster",
    "Value",
    "days",
    "dead_letter",
    "deleted_class",
    "exponential",
    "full_name",
    "home_of",
    "hours",
    "key_field",
    "key_of",
    "load",
    "minutes",
    "park_key",
    "seconds",
    "stop",
    "tombstone_of",
    "upcasts",
]
