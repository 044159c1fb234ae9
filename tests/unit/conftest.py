"""For all unit tests: how long an example of a law takes is not the question."""

from __future__ import annotations

from hypothesis import settings

# The default of 200 ms an example fails on a machine that does something else at the time.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
