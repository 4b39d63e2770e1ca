"""Orders to a running broker besides Kafka's protocol: faults, waiting, the clock, housekeeping; over HTTP."""
