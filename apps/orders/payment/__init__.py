"""Moves money through the gateway, exactly once for each order and return, whatever fails in between."""
