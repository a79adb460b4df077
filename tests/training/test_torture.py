"""A handful of what `make torture` does by the dozen: processes killed and checkpoints damaged, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_law_09_killed_and_damaged_runs_end_as_if_nothing_had_happened() -> None:
    """In a process of its own, since it forks children before any thread of torch has begun."""
    command = [sys.executable, str(TESTS / "torture.py"), "--kills", "4", "--damages", "2", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": str(TESTS)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["identical"] == found["trials"]
    assert sum(count for what, count in found.items() if what.startswith("killed")) >= 4
    assert sum(count for what, count in found.items() if what.startswith("damaged")) >= 2
