"""Several processes: their commands, what their runs must have in common, and groups that are pretended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.run import Run
from small import SMALL, final_state

SETTINGS: dict[str, Any] = {**SMALL, "batch_size": 6, "micro_batch_size": 1, "steps": 8, "checkpoint_every": 4}


ABORT_AT_THE_END = """
import os
if os.environ.get("RANK") == "{rank}":
    def leave(code):
        import pathlib, time
        time.sleep({wait})
        pathlib.Path(__file__).with_name("aborted").open("a").write(os.environ["RANK"])
        os.abort()
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os._exit = leave
"""
"""A sitecustomize.py: the process of this rank, when it would leave, waits and is aborted."""


def lightwell(*words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightwell", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=env)


def plant_abort(folder: Path, rank: int, wait: float = 0.0) -> dict[str, str]:
    """An environment in which a process of this rank is aborted once, so many seconds after its end; it then writes
    its rank into the file `aborted` of the folder."""
    (folder / "sitecustomize.py").write_text(ABORT_AT_THE_END.format(rank=rank, wait=wait), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


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
