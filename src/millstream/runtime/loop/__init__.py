"""The parts of every consumer loop that concern its group and its cluster: offsets, topic ids, transactions."""
