"""The Kafka port over a simulated cluster: clients that speak Kafka's protocol beside the application."""
