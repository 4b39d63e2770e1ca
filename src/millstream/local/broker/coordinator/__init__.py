"""Consumer groups, their offsets, and transactions, kept in one journal."""
