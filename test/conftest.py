"""Puts this folder on the path of the tests, for what they share, and keeps Hypothesis from judging by the clock."""

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
