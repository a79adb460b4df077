"""Which evaluation of a run is its best one: the lowest loss, and the first where several have it. It needs no torch.

A run knows it in two forms, which tests hold against each other: `EvaluationTracker` while it trains, and
`best_evaluation` from its records afterwards. Losses of different held-out tokens are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Sequence[Mapping[str, Any]]


@dataclass
class EvaluationTracker:
    """The best evaluation so far; its fields are saved in every checkpoint."""

    best_loss: float | None = None
    """The lowest held-out loss, in nats per token."""
    best_step: int = 0
    """The step that had it."""
    since_best: int = 0
    """The number of evaluations since."""
    scored_tokens: int = 0
    """Targets of the newest evaluation; only losses on as many, which are the same ones, are compared. 0: not known."""

    def add(self, step: int, loss: float, scored_tokens: int) -> None:
        """Take an evaluation into account; one of other tokens than before begins anew."""
        if self.scored_tokens not in (0, scored_tokens):
            self.best_loss = None
        self.scored_tokens = scored_tokens
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.since_best = loss, step, 0
        else:
            self.since_best += 1


def comparable_evaluations(metrics: Metrics) -> list[Mapping[str, Any]]:
    """Return the newest evaluations that scored the same held-out tokens, in their order.

    A run may be resumed with other eval_tokens; losses of different sets cannot be compared, and the newest set counts.
    Records of earlier versions do not say how many tokens they scored, and count as the set that follows them.
    """
    evaluations = [record for record in metrics if "validation_loss" in record]
    scored_tokens, first = 0, len(evaluations)
    for record in reversed(evaluations):
        scored_tokens = scored_tokens or record.get("scored_tokens", 0)
        if record.get("scored_tokens", scored_tokens) != scored_tokens:
            break
        first -= 1
    return evaluations[first:]


def evaluations_best_first(metrics: Metrics) -> list[Mapping[str, Any]]:
    """Return the comparable evaluations, the lowest loss first, and of equal ones the first."""
    return sorted(comparable_evaluations(metrics), key=lambda record: float(record["validation_loss"]))


def generating_step(metrics: Metrics, saved: Sequence[int]) -> int | None:
    """Return the step whose weights generate where none is named.

    Of the checkpoints `saved`, in ascending order, it is the one with the best evaluation, else the newest; None
    without any. Whether it is whole shows when it is loaded.
    """
    evaluated = (int(record["step"]) for record in evaluations_best_first(metrics) if record["step"] in saved)
    return next(evaluated, saved[-1] if saved else None)


def best_evaluation(metrics: Metrics) -> Mapping[str, Any] | None:
    """Return the record of the best evaluation; None before any."""
    return next(iter(evaluations_best_first(metrics)), None)
