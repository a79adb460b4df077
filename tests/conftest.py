"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline for an example: on a busy machine the time of one says nothing. The same examples every time, so that a
# change is to blame when a test begins to fail.
settings.register_profile("lightwell", deadline=None, derandomize=True)
settings.load_profile("lightwell")
