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
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.runs.best import best_evaluation, generating_step
from lightwell.training.runs.plot import text_in_short
from lightwell.training.runs.run import CONFIG, Run, list_runs
from lightwell.training.settings.presets import preset_like
from lightwell.views import html_table, lines, number


@dataclass(frozen=True)
class Summary:
    """The figures of one run; scores are those of its best evaluation, None before the first."""

    name: str
    path: str
    text: str
    """What it learns from, in short: the corpus, or the first path and how many more."""
    preset: str
    """The preset whose model it has; empty where it has that of none."""
    seed: int
    machine: str
    """The CPU that it was begun on; empty where that is not known."""
    begun: str
    """When it was begun, in local time, as in ISO 8601."""
    step: int
    steps: int
    parameters: int
    best_step: int | None
    generates: int | None
    """The step whose weights generate where none is named; None before the first checkpoint."""
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
            text=text_in_short(run.config.text),
            preset=preset_like(run.config),
            seed=run.config.training.seed,
            machine=str(run.machine().get("processor", "")),
            begun=_time((run.path / CONFIG).stat().st_mtime),
            step=last.get("step", 0),
            steps=run.config.training.steps,
            parameters=run.config.model.parameter_count(),
            best_step=best.get("step"),
            generates=generating_step(metrics, checkpoint_steps(run.checkpoints)),
            validation_loss=best.get("validation_loss"),
            bits_per_byte=best.get("validation_bits_per_byte"),
            perplexity=best.get("perplexity"),
            tokens_seen=last.get("tokens_seen", 0),
            seconds=last.get("seconds", 0.0),
            size_bytes=sum(file.st_size for file in files),
            written=_time(max(file.st_mtime for file in files)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Summaries(list[Summary]):
    """Runs, as a notebook shows them: a table."""

    def _repr_html_(self) -> str:
        head = ("run", "text", "steps", "held-out loss", "bits per byte", "last written")
        rows = [
            (one.path, one.text, f"{one.step:,} of {one.steps:,}", number(one.validation_loss),
             number(one.bits_per_byte), one.written)
            for one in self
        ]  # fmt: skip
        return html_table(head, rows)

    def __repr__(self) -> str:
        rows = [(one.path, f"{one.step:,} of {one.steps:,} steps, loss {number(one.validation_loss)}") for one in self]
        return lines(f"{len(self)} run{'s' if len(self) != 1 else ''}", rows)


@checked
def runs(folder: str | Path = "runs", say: Callable[[str], None] = lambda sentence: None) -> Summaries:
    """Return a summary of every run in a folder, the newest first; `say` hears of those that are damaged."""
    found = Summaries()
    for run in list_runs(expanded(folder)):
        try:
            found.append(Summary.of(run))
        except RunError as error:
            say(str(error))
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
