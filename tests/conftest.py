"""Settings for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: tests run side by side, and threads that wait for each other on two cores take many times as
# long as one. The processes that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

# No deadline for an example: on a busy machine the time of one says nothing. The same examples every time, so that a
# change is to blame when a test begins to fail.
settings.register_profile("lightwell", deadline=None, derandomize=True)
settings.load_profile("lightwell")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tokens made by tests stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTWELL_CACHE", str(folder))
        yield folder
