"""`lightwell runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import Json
from lightwell.cli.printer import show
from lightwell.errors import RunError
from lightwell.plain_json import plain_json
from lightwell.training.runs.summary import Summary
from lightwell.training.runs.summary import runs as summaries


def runs(
    folder: Annotated[Path, Parameter(help="Where the runs are.")] = Path("runs"), /, *, json: Json = False
) -> None:
    """List the runs in a folder, the newest first."""
    if not folder.is_dir() and folder != Path("runs"):
        raise RunError(f"There is no folder {folder}.")
    listed = summaries(folder, say=lambda sentence: show(sentence, file=sys.stderr))
    if json:
        print(plain_json([summary.to_dict() for summary in listed]))
    elif not listed:
        show(f"No run is in {folder} yet; `lightwell train` makes one.")
    else:
        head = ("run", "steps", "parameters", "held-out loss", "bits/byte", "size", "last written")
        show(words.table([head, *map(_row, listed)], right=(1, 2, 3, 4, 5)))


def _row(summary: Summary) -> tuple[str, ...]:
    done = f"{summary.step:,}" if summary.step == summary.steps else f"{summary.step:,}/{summary.steps:,}"
    return (
        summary.path,
        done,
        words.short(summary.parameters),
        "-" if summary.validation_loss is None else f"{summary.validation_loss:.3f}",
        "-" if summary.bits_per_byte is None else f"{summary.bits_per_byte:.3f}",
        words.in_bytes(summary.size_bytes),
        summary.written,
    )
