"""Hands confirmed orders to the carrier."""
