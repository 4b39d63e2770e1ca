"""What a good engineer writes by hand for the same work, with the same guarantees and telemetry."""
