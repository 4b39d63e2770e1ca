"""Knows what there is of each product, and sets it aside for orders: all of an order or nothing."""
