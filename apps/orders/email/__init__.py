"""Tells customers what became of their orders. It listens to `outbox.events` alone."""
