"""Worlds: the processes of a system, what goes wrong among them, and the services that run in them."""
