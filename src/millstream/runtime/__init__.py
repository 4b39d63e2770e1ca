"""The worker of each kind of handler, and what they share: calling, dead letters, slots, the outbox relay."""
