"""The worker of effects, which call the outside world."""
