"""Answers queries: what became of every order and return."""
