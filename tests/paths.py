"""Where the tests find real text: beside the project, and a test that needs it is skipped where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared" / "data"


def needs(name: str) -> Path:
    """The path of a file or folder of the shared data; skips the calling test, with the reason, where it is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} in {SHARED.parent.name}/{SHARED.name} beside the repository")
    return path
