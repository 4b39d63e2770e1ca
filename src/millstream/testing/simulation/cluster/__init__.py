"""A simulated Kafka cluster: the local broker's core behind a network that delays and loses, and a schema registry."""
