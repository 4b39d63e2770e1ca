"""The worker of handlers with a database, and the relay that publishes their outbox."""
