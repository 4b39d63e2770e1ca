"""Temperatures of many devices: validated, converted, kept for analysis; what is malformed is set aside."""
