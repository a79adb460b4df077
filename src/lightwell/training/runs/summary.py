"""A run in a few figures: how far it is, how good, how large. It needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from lightwell.arguments import checked
from lightwell.errors import RunError
from lightwell.text.paths import expanded
from lightwell.training.runs.best import best_evaluation
from lightwell.training.runs.run import Run, list_runs


@dataclass(frozen=True)
class Summary:
    """The figures of one run; scores are those of its best evaluation, None before the first."""

    name: str
    path: str
    step: int
    steps: int
    parameters: int
    best_step: int | None
    validation_loss: float | None
    bits_per_byte: float | None
    perplexity: float | None
    tokens_seen: int
    seconds: float
    size_bytes: int
    written: str
    """When it was last written to, in local time, as in ISO 8601."""

    @classmethod
    def of(cls, run: Run) -> Self:
        """Read the run's records.

        Raises:
            RunError: its configuration or a record is damaged.
        """
        metrics = run.metrics()
        steps = [record for record in metrics if "validation_loss" not in record]  # those left out, too
        best = best_evaluation(metrics) or {}
        last = steps[-1] if steps else {}
        files = [path.stat() for path in run.path.rglob("*") if path.is_file()]
        return cls(
            name=run.name,
            path=str(run.path),
            step=last.get("step", 0),
            steps=run.config.training.steps,
            parameters=run.config.model.parameter_count(),
            best_step=best.get("step"),
            validation_loss=best.get("validation_loss"),
            bits_per_byte=best.get("validation_bits_per_byte"),
            perplexity=best.get("perplexity"),
            tokens_seen=last.get("tokens_seen", 0),
            seconds=last.get("seconds", 0.0),
            size_bytes=sum(file.st_size for file in files),
            written=datetime.fromtimestamp(max(file.st_mtime for file in files)).isoformat(" ", "minutes"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@checked
def runs(folder: str | Path = "runs", say: Callable[[str], None] = lambda sentence: None) -> list[Summary]:
    """Return a summary of every run in a folder, the newest first; `say` hears of those that are damaged."""
    found: list[Summary] = []
    for run in list_runs(expanded(folder)):
        try:
            found.append(Summary.of(run))
        except RunError as error:
            say(str(error))
    return found
