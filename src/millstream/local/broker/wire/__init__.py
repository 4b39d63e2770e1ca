"""Requests and responses as bytes: kio for the many, by hand for the two that carry the records."""
