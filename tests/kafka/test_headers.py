"""Headers through the port: in order, as often as there are, empty or without a value."""

HEADERS = [("a", b"1"), ("nothing", None), ("empty", b""), ("a", b"\xff")]


def test_a_header_without_a_value_is_no_empty_one(broker, kafka):
    topic = broker.topic()
    plain = broker.closing(kafka.producer())
    plain.produce(topic, b"1", headers=HEADERS)
    plain.flush()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"2", headers=HEADERS)
    producer.produce(topic, b"3", headers=[])
    producer.commit()
    read = [message.headers() for batch in kafka.read_to_end(topic) for message in batch]
    assert read == [HEADERS, HEADERS, None]
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    assert [message.headers() for message in broker.take(consumer, 3)] == [HEADERS, HEADERS, None]
