"""`lightwell runs`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import Json
from lightwell.cli.printer import show
from lightwell.errors import RunError
from lightwell.plain_json import plain_json
from lightwell.text.paths import expanded
from lightwell.training.runs.run import Run
from lightwell.training.runs.summary import Summary
from lightwell.training.runs.summary import runs as summaries

ORDERS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda run: run.path,
    "text": lambda run: (run.text, run.path),
    "loss": lambda run: math.inf if run.validation_loss is None else run.validation_loss,
    "bits": lambda run: math.inf if run.bits_per_byte is None else run.bits_per_byte,
    "parameters": lambda run: run.parameters,
    "steps": lambda run: run.step,
    "size": lambda run: run.size_bytes,
}
"""What runs can be sorted by beside their date, each ascending."""


def runs(
    folder: Annotated[Path, Parameter(help="Where the runs are.")] = Path("runs"),
    /,
    *,
    sort: Annotated[
        Literal["date", "name", "text", "loss", "bits", "parameters", "steps", "size"],
        Parameter(help="What they are sorted by: date (the newest first), or another column."),
    ] = "date",
    json: Json = False,
) -> None:
    """List the runs in a folder, and the settings in which they differ."""
    folder = expanded(folder)
    if not folder.is_dir() and folder != Path("runs"):
        raise RunError(f"There is no folder {folder}.")
    listed = summaries(folder, say=lambda sentence: show(sentence, file=sys.stderr))
    if sort != "date":
        listed.sort(key=ORDERS[sort])
    if json:
        print(plain_json([summary.to_dict() for summary in listed]))
    elif not listed:
        show(f"No run is in {folder} yet; `lightwell train` makes one.")
    else:
        head = ("run", "text", "steps", "parameters", "held-out loss", "bits/byte", "generates", "size", "last written")
        show(words.table([head, *map(_row, listed)], right=(2, 3, 4, 5, 6, 7), spare=(7, 3, 8, 5, 6, 1, 2)))
        if lines := differences(listed):
            show("\nSettings in which they differ:\n" + words.table(lines))


def differences(listed: Sequence[Summary]) -> list[tuple[str, str]]:
    """Return each run with the settings in which the runs differ from one another; nothing where they do not."""
    values = [_settings(Run(summary.path)) for summary in listed]
    differ = [name for name in values[0] if len({str(each[name]) for each in values}) > 1] if values else []
    if not differ:
        return []
    return [
        (f"  {summary.path}", ", ".join(f"{name} {each[name]}" for name in differ))
        for summary, each in zip(listed, values, strict=True)
    ]


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run by name, but for those that the table says."""
    sections = run.config.to_dict()
    return {name: value for section, values in sections.items() for name, value in values.items()
            if section != "text" or name not in ("paths", "corpus")}  # fmt: skip


def _row(summary: Summary) -> tuple[str, ...]:
    done = f"{summary.step:,}" if summary.step == summary.steps else f"{summary.step:,}/{summary.steps:,}"
    return (
        summary.path,
        summary.text,
        done,
        words.short(summary.parameters),
        "-" if summary.validation_loss is None else f"{summary.validation_loss:.3f}",
        "-" if summary.bits_per_byte is None else f"{summary.bits_per_byte:.3f}",
        "-" if summary.generates is None else f"step {summary.generates:,}",
        words.in_bytes(summary.size_bytes),
        summary.written,
    )
