"""The order-management system: services that act on each other's events, and their surroundings on a laptop."""
