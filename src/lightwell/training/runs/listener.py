"""What a run tells while it goes on: the loop calls a listener, and the command line, the page or a test listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Listener:
    """A listener that hears everything and does nothing; override what you want to hear."""

    def say(self, sentence: str) -> None:
        """Something the user should know, e.g. what was read or that a checkpoint was damaged."""

    def chose(self, rows: list[dict[str, float]], best: int) -> None:
        """For the time there is, the model in row `best` was chosen; rows as `budget.Candidate.row` gives them."""

    def begin(self, steps: int, start: int) -> None:
        """Training begins at step `start` of `steps`."""

    def lengthened(self, steps: int) -> None:
        """It will be so many steps in all: a run that was asked for minutes follows its pace."""

    def stepped(self, record: dict[str, Any]) -> None:
        """A step is done; `record` as in metrics.jsonl."""

    def evaluated(self, record: dict[str, Any]) -> None:
        """The held-out tokens were scored; `record` as in metrics.jsonl."""

    def sampled(self, record: dict[str, Any]) -> None:
        """The model wrote; `record` as in samples.jsonl."""

    def saved(self, checkpoint: Path) -> None:
        """A checkpoint is on disk."""

    def end(self) -> None:
        """Training is over, however it ended."""
