"""The search for an arm's learning rate: a grid, and beyond its ends where the best is at one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightwell.errors import TrainingError
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.trial import Trained, Trial

TUNING_SEED = 1000
"""Learning rates are chosen on seeds from here on, and confirmed on others."""
RATE_STEP = 3.0
"""From one learning rate of a grid to the next."""
MOST_WIDENED = 2
"""Rates that are tried beyond a grid."""


@dataclass(frozen=True)
class LearningRateSearch:
    """The choice of an arm's learning rate, by its held-out loss on a seed that does not count."""

    context: ExperimentContext
    arm: str
    settings: Mapping[str, Any]
    """What the arm replaces in the base configuration."""
    base: float = 0.0
    """The middle of the grid; 0 takes that of the base configuration."""

    @property
    def grid(self) -> list[float]:
        """Return as many rates as the budget has, around the base, ascending."""
        count = self.context.budget.rates
        middle = self.base or self.context.config.training.learning_rate
        return [middle * RATE_STEP ** (i - count // 2) for i in range(count)]

    def trial(self, rate: float) -> Trial:
        """Return the training that tries a rate."""
        settings = {**self.settings, "learning_rate": rate}
        return self.context.trial(self.arm, TUNING_SEED + self.context.seed, **settings)

    def losses(self) -> dict[float, float]:
        """Return each rate that was tried, ascending, with its loss; nothing where the budget has but one rate.

        While the best rate is the lowest or the highest of all, one beyond it is tried, so that the best has a worse
        one on either side; after MOST_WIDENED of them it is left at that. A plan trains nothing: as soon as it meets a
        loss that is not there yet, it knows none.
        """
        grid = self.grid
        losses = {rate: self._loss(rate) for rate in grid} if len(grid) > 1 else {}
        while losses and not any(map(math.isnan, losses.values())):
            best = min(losses, key=losses.__getitem__)
            if best not in (min(losses), max(losses)) or len(losses) == len(grid) + MOST_WIDENED:
                return dict(sorted(losses.items()))
            beyond = best / RATE_STEP if best == min(losses) else best * RATE_STEP
            losses[beyond] = self._loss(beyond, planned=False)  # no plan can know of it
        return {}

    def best(self) -> float:
        """Return the rate with the lowest loss, and record the choice in the context; the base where none was tried."""
        losses = self.losses()
        if not losses:
            if len(self.grid) > 1:
                self.context.store.guess()
            return self.base or self.context.config.training.learning_rate
        best = min(losses, key=losses.__getitem__)
        at_the_edge = best in (min(losses), max(losses))
        self.context.tunings[self.arm] = {"tried": list(losses.items()), "chosen": best, "at_the_edge": at_the_edge}
        return best

    def _loss(self, rate: float, planned: bool = True) -> float:
        try:
            return self.context.train(self.trial(rate), planned=planned).loss
        except TrainingError:  # a rate at which training diverges is not the best one
            return math.inf


@dataclass(frozen=True)
class TunedArm:
    """An arm trained at its own learning rate."""

    rate: float
    runs: list[Trained]
    """One for each seed that counts."""

    @property
    def losses(self) -> list[float]:
        """Return the held-out losses, seed by seed."""
        return [run.loss for run in self.runs]


def tune_and_train(
    context: ExperimentContext, arm: str, settings: Mapping[str, Any], base: float = 0.0,
    probing: Mapping[str, Any] | None = None,
) -> TunedArm:  # fmt: skip
    """Choose an arm's learning rate, and train it on the seeds that count; probing: the probe of those alone."""
    rate = LearningRateSearch(context, arm, settings, base).best()
    return TunedArm(rate, context.trained(arm, **{**settings, **(probing or {}), "learning_rate": rate}))


def tuning_words(context: ExperimentContext) -> str:
    """Return how the learning rate was chosen, in words, for the card."""
    if context.budget.rates == 1:
        return "The learning rate was not retuned: this budget forbids it."
    rates = ", ".join(f"{rate:g}" for rate in LearningRateSearch(context, "", {}).grid)
    return (
        f"The learning rate of each arm is the best of {rates} on a seed of its own; where that is the lowest or "
        f"the highest, up to {MOST_WIDENED} beyond it are tried as well."
    )


def edge_words(tunings: Mapping[str, Any]) -> list[str]:
    """Return which arms' best learning rate is the last one that was tried, for the card."""
    arms = [f"{arm} ({tuning['chosen']:.3g})" for arm, tuning in tunings.items() if tuning["at_the_edge"]]
    return [f"At the edge of what was tried, the best learning rate of: {'; '.join(arms)}."] if arms else []
