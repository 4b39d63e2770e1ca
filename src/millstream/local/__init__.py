"""The local platform: a Kafka broker and a schema registry for one machine, run as `millstream broker`."""
