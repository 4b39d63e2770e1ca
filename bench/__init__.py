"""Measurements: ours beside baselines written by hand. `make bench` runs them all."""
