import pytest
from confluent_kafka import KafkaError, KafkaException

from millstream.errors import EncodeError, Fenced, KafkaFault, TopicMissing, Unavailable
from millstream.kafka.faults import fault, is_fatal


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError(KafkaError._FENCED), Fenced),
        (KafkaError(KafkaError.FENCED_INSTANCE_ID), Fenced),
        (KafkaError(KafkaError._FATAL, "Fatal error: Broker: Static consumer fenced by other consumer"), Fenced),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), TopicMissing),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), EncodeError),
        (KafkaError(KafkaError.ILLEGAL_GENERATION), Unavailable),
        (KafkaError(KafkaError._TRANSPORT), Unavailable),
        (KafkaError(KafkaError.UNKNOWN, "odd", retriable=True), Unavailable),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), KafkaFault),
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), Unavailable),
        (ValueError("odd"), KafkaFault),
    ],
)
def test_each_error_has_its_place_in_the_tree_and_says_what_was_being_done(error, kind):
    failure = fault(error, "reading 'orders.events'")
    assert type(failure) is kind
    assert "reading 'orders.events'" in str(failure)


def test_a_right_that_is_missing_is_named():
    assert "grant this principal Read, or Write, on the topic" in str(
        fault(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "reading 'orders.events'")
    )


def test_what_makes_a_client_useless():
    assert is_fatal(KafkaError(KafkaError._FATAL, "anything"))
    assert is_fatal(KafkaError(KafkaError.UNKNOWN, "anything", fatal=True))
    assert not is_fatal(KafkaError(KafkaError._TRANSPORT))
