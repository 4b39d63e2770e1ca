"""What the broker answers: one module for each group of API keys, and the table of them all."""
