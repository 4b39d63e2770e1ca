"""Patterns on the runtime, each a small room of its own."""
