"""Which evaluation of a run is its best one. It needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Metrics = Sequence[Mapping[str, Any]]


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


def best_evaluation(metrics: Metrics) -> Mapping[str, Any] | None:
    """Return the record of the best evaluation, the first one where several are; None before any."""
    return min(comparable_evaluations(metrics), key=lambda record: float(record["validation_loss"]), default=None)


def best_step(metrics: Metrics) -> int | None:
    """Return the step of the best evaluation; None before any."""
    best = best_evaluation(metrics)
    return None if best is None else int(best["step"])
