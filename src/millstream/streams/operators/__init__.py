"""The operators of streams and tables, with the semantics of Kafka Streams: docs/streams.md has each difference."""
