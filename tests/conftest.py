"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is: speed is the benchmarks' business.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
