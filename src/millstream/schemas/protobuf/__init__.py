"""Protobuf as registries know it: reading a schema, writing it in one way, and who can read whose data."""
