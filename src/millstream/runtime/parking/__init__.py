"""Parked keys: an event that failed waits for its next attempt, and later events of its key wait behind it."""

from millstream.runtime.parking.event import ParkedEvent, park
from millstream.runtime.parking.lanes import LaneKey, Lanes, Shelf, lane_of
from millstream.runtime.parking.verdict import Verdict, verdict

__all__ = ["LaneKey", "Lanes", "ParkedEvent", "Shelf", "Verdict", "lane_of", "park", "verdict"]
