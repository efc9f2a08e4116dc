"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# how long an example takes says something of the machine, not of the code
settings.register_profile("geoseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geoseg")
