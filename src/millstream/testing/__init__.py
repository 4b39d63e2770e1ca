"""Brokers for tests: `local.LocalKafka`, `apache.ApacheKafka`, and a pytest plugin with both as fixtures."""
