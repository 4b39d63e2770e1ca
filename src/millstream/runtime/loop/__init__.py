"""What every consumer loop needs of its group and its cluster: offsets, topic ids, transactions, liveness."""
