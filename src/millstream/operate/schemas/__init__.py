"""Contracts over time: what the code says now, held against what was registered or locked before."""
