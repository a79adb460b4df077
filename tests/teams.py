"""Several processes: their commands, what their runs must have in common, and groups that are pretended."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.run import Run
from small import SMALL, final_state

SETTINGS: dict[str, Any] = {**SMALL, "batch_size": 6, "micro_batch_size": 1, "steps": 8, "checkpoint_every": 4}


def lightwell(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lightwell", *map(str, words)], capture_output=True, encoding="utf-8")


def close(left: Run, right: Run) -> None:
    """The same records, losses within 1e-6, and weights that differ by rounding at most."""
    for one, other in zip(left.metrics(), right.metrics(), strict=True):
        assert one["step"] == other["step"]
        for name in ("loss", "validation_loss", "grad_norm"):
            assert one.get(name) == pytest.approx(other.get(name), abs=1e-6 if name != "grad_norm" else 1e-5)
    for name, tensor in final_state(left).items():
        assert (tensor - final_state(right)[name]).abs().max() < 1e-4, name


def pretend_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process of a group that is pretended hear its own numbers alone, in every exchange."""
    monkeypatch.setattr(ProcessGroup, "_exchange", lambda self, numbers, operation: numbers)


def lost(run: Path, to: Path) -> Path:
    """A copy of a finished run as it would be, had it been killed after step 4."""
    shutil.copytree(run, to)
    for folder in (to / "checkpoints").iterdir():
        if int(folder.name) > 4:
            shutil.rmtree(folder)
    return to
