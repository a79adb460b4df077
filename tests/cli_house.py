"""A folder with a text and a finished small run, and calls of the command line inside the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightwell.cli.app import run
from small import SMALL, write_text


@dataclass(frozen=True)
class Result:
    """What a call of the command line left behind."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *tokens: str | Path) -> Result:
    """Carry out one command line."""
    capsys.readouterr()
    code = run([str(token) for token in tokens])
    out, err = capsys.readouterr()
    return Result(code, out, err)


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """{"n_layers": 2} -> ["--n-layers=2"]."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


SMALL_FLAGS = as_flags(SMALL)


def build(folder: Path) -> Path:
    """Train the run runs/notes on the text notes/ in `folder`, which must be the working directory."""
    write_text(folder / "notes")
    assert run(["train", "notes", *SMALL_FLAGS]) == 0
    return folder
