"""What lies on disk: record batches, segments, and the log of one partition."""
