"""Mending an event of a topic of whole CloudEvents: it stays a whole one, with the id that it had."""

import json

import msgspec
import pytest

from millstream import Event, Service, Topic
from millstream.contracts import Contracts
from millstream.declare import System
from millstream.errors import ConfigurationError
from millstream.operate.dlq.context import Origins
from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterId
from millstream.operate.dlq.editing import Draft


class Weighed(Event, key="parcel", namespace="test.dlq"):
    parcel: str
    grams: int


weights = Topic("dlq.weights", Weighed, format="cloudevents")
dlq_scale = Service("dlq-scale")


@dlq_scale.on(Weighed)
def note(weighed: Weighed) -> None: ...


def letter_of(value: bytes) -> DeadLetter:
    blank = {
        "service": "s",
        "group": "g",
        "handler": None,
        "reason": "r",
        "error": "e",
        "message": "",
        "stacktrace": "",
    }
    rest = {"attempts": 1, "first_failed": None, "last_failed": None, "parked": False, "redrives": 0, "headers": []}
    id = DeadLetterId("dlq.weights.dlq", 0, 0)
    return DeadLetter(id=id, at=("dlq.weights", 0, 0), milliseconds=0, key=b"p-1", value=value, **blank, **rest)


def draft(value: bytes) -> Draft:
    origins = Origins(System("dlq", [f"{__name__}:dlq_scale"]))
    return Draft(letter_of(value), origins, Contracts(None))


def test_the_event_stays_whole_and_itself():
    event = {"specversion": "1.0", "id": "e-1", "source": "/scales", "type": "test.dlq.Weighed", "extra": 7}
    whole = msgspec.json.encode(event | {"data": {"parcel": "p-1", "grams": 1}})
    edited = draft(whole).with_fields(["grams=2"])
    said = json.loads(edited.value)
    assert said["data"] == {"parcel": "p-1", "grams": 2}
    assert {name: said[name] for name in event} == event
    assert Contracts(None).decoder([weights]).decode(edited.value) == Weighed(parcel="p-1", grams=2)


def test_without_an_id_it_cannot_be_the_same_event():
    with pytest.raises(ConfigurationError, match="publish a new one"):
        draft(b"garbage").with_text('{"parcel": "p-1", "grams": 2}')
