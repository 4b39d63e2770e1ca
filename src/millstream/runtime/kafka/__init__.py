"""The worker of Kafka handlers, whose state is in stores with changelogs."""
