"""Takes orders in, and alone decides how each of them ends."""
