"""What holds for all unit tests."""

from hypothesis import HealthCheck, settings

# Its bounds of time would be a test of the machine: 200 ms for an example, and a second for what makes examples.
settings.register_profile("memunit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("memunit")
