"""One partition of a worker: its timers, parked keys and failures, and the calls of its handlers."""
