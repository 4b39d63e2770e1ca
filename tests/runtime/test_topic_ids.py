"""Committed offsets count for the topic and the cluster that they were committed for, and for no other."""

import pytest

from millstream.errors import ConfigurationError, TopicReplaced
from millstream.kafka import BEGINNING, Committed, TopicSpec, connect
from millstream.runtime.loop.commit_note import MAX_UNITS, CommitNote, cluster_token, read_note
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka


class Place:
    """A consumed topic and a changelog on the local broker."""

    def __init__(self, kafka: LocalKafka, name: str) -> None:
        self.kafka = connect(Settings(bootstrap_servers=kafka.bootstrap), "topic-ids")
        self.admin = self.kafka.admin()
        self.topic, self.changelog = f"{name}.orders", f"{name}.changelog"
        self.at = (self.topic, 0)
        self.make()
        self.ids = self.look()

    def make(self) -> None:
        self.admin.ensure_topics([TopicSpec(self.topic, 1), TopicSpec(self.changelog, 1)])

    def look(self) -> TopicIds:
        ids = TopicIds(self.kafka, "g", [self.topic], [self.changelog])
        ids.refresh()
        return ids

    def remake(self, topic: str) -> None:
        self.admin.delete_topics([topic])
        wait_until(lambda: topic not in self.admin.topic_ids([topic]), seconds=60, what="the topic to be gone")
        self.make()

    def standing(self, offset: int | None, metadata: str) -> Committed:
        return self.look().valid({self.at: Committed(offset, metadata)})[self.at]


@pytest.fixture
def place(shared_kafka: LocalKafka, request: pytest.FixtureRequest):
    made = Place(shared_kafka, f"ids-{abs(hash(request.node.name))}")
    yield made
    made.admin.close()


def test_what_was_committed_for_this_topic_counts(place: Place):
    note = place.ids.note(place.topic, 75, done="1,3", mark="life.1")
    assert place.standing(75, note) == (75, "1,3")
    assert place.look().starts({place.at: Committed(75, note)}, BEGINNING) == {place.at: 75}
    assert place.look().starts({place.at: Committed(None)}, BEGINNING) == {place.at: BEGINNING}
    place.look().check()


def test_a_copy_of_mirrormaker_brings_the_offset_alone(place: Place):
    note = place.ids.note(place.topic, 75, done="1,3")
    copied = note.replace(cluster_token(place.admin.cluster_id()), cluster_token("another"))
    assert copied != note
    assert place.standing(1, copied) == (1, "")
    # Within one cluster: a translated offset, or one that a tool has moved and left the metadata beside it.
    assert place.standing(1, note) == (1, "")


@pytest.mark.parametrize("foreign", ["", "host-1", "done:1,3", "ms1", "ms1 o=x d=1,3", "ms2 o=75 d=1,3", "=="])
def test_metadata_of_other_tools_says_nothing(place: Place, foreign: str):
    assert place.standing(75, foreign) == (75, "")


def test_an_offset_of_a_topic_that_was_made_again_counts_for_nothing(place: Place):
    note = place.ids.note(place.topic, 75, done="1,3")
    place.remake(place.topic)
    with pytest.raises(TopicReplaced, match=place.topic):
        place.ids.check()
    assert place.standing(75, note) == (None, "")


def test_state_that_is_gone_stops_the_service_and_says_what_to_do(place: Place):
    note = place.ids.note(place.topic, 75)
    place.remake(place.changelog)
    with pytest.raises(TopicReplaced, match=place.changelog):
        place.ids.check()
    with pytest.raises(ConfigurationError, match=rf"{place.changelog}.*made again.*millstream reset"):
        place.standing(75, note)
    # What a person has set has no note, and counts.
    assert place.standing(75, "") == (75, "")
    # A store that the position knows nothing of is new.
    other = TopicIds(place.kafka, "g", [place.topic], [place.changelog, f"{place.changelog}.2"])
    place.admin.ensure_topics([TopicSpec(f"{place.changelog}.2", 1)])
    other.refresh()
    assert other.valid({place.at: Committed(75, place.look().note(place.topic, 75))})[place.at] == (75, "")


def test_a_service_with_hundreds_of_stores_has_room_for_what_is_done():
    state = tuple(f"{number:06x}:{number:06x}" for number in range(200))
    note = CommitNote("c" * 8, "t" * 22, 2**62, state, "", "service.kafka.0/1796051721496555788/1000000")
    assert len(note.text()) < MAX_UNITS
    assert read_note(note.text()) == note
    # An effect keeps its state in one topic, and needs the room for what is done.
    note = CommitNote("c" * 8, "t" * 22, 2**62, state[:1], "1," * 1_950, "1796051721496.fffffff")
    assert len(note.text()) <= MAX_UNITS
