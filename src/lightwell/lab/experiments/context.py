"""The context that an experiment works at: its text, its base configuration, its budget, and what is finished already."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightwell.corpus.corpus import Corpus
from lightwell.errors import TrainingError
from lightwell.lab.experiments.budget import Budget
from lightwell.lab.experiments.rate_search import MOST_WIDENED, RATE_STEP, search
from lightwell.lab.experiments.store import Store
from lightwell.lab.experiments.trial import Change, Look, Trained, Trial, train_trial
from lightwell.training.settings.config import RunConfig

TUNING_SEED = 1000
"""Learning rates are chosen on seeds from here on, and confirmed on others."""


@dataclass
class ExperimentContext:
    """What an experiment is given. It asks for trainings and measurements; those that are finished are looked up."""

    note: str
    config: RunConfig
    """Resolved: vocabulary, steps and precision are known. Arms are this with a few settings replaced."""
    corpus: Corpus
    budget: Budget
    store: Store
    seed: int = 1
    """The first of the seeds that count."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """The note's own changes of the formula, by name."""
    looks: Mapping[str, Look] = field(default_factory=dict)
    """What it looks at along a training, by name."""
    told: Callable[[Trial], None] = lambda trial: None
    """Hears of each training that was made now."""
    tunings: dict[str, Any] = field(default_factory=dict)
    """For each arm whose learning rate was chosen: the rates and losses that were tried, and the choice."""

    @property
    def seeds(self) -> range:
        """Return the seeds that count. Those that learning rates are tried on come from elsewhere."""
        return range(self.seed, self.seed + self.budget.seeds)

    def trial(
        self, arm: str, seed: int, *, change: str = "", look: str = "", looks: int = 0, part: int = 0, **settings: Any
    ) -> Trial:
        """Return a training of an arm: the base configuration with settings replaced."""
        return Trial(arm, seed, self.config.with_values(settings), change, look, looks, part)

    def train(self, trial: Trial) -> Trained:
        """Its result."""
        change = self.changes[trial.change] if trial.change else None
        look = self.looks[trial.look] if trial.look else None
        made = self.store.made
        trained = self.store.trained(self.note, trial, lambda: train_trial(trial, self.corpus, change, look))
        if self.store.made > made:
            self.told(trial)
        return trained

    def trained(self, arm: str, **settings: Any) -> list[Trained]:
        """Return the results of an arm on all seeds that count."""
        return [self.train(self.trial(arm, seed, **settings)) for seed in self.seeds]

    def measure(self, name: str, work: Callable[[], Any], **settings: Any) -> Any:
        """Return plain values that `work` returns; settings: all that decides them, beside the text and the base
        settings.
        """
        whole = {"config": self.config.to_dict(), "draws": self.budget.draws, **settings}
        return self.store.measured(self.note, name, whole, work)

    def rates(self, base: float = 0.0) -> list[float]:
        """Return the learning rates that are tried for an arm: as many as the budget has, around the base."""
        base, count = base or self.config.training.learning_rate, self.budget.rates
        return [base * RATE_STEP ** (i - count // 2) for i in range(count)]

    def tuning_trials(self, arm: str, base: float = 0.0, **settings: Any) -> list[Trial]:
        """Return the trainings that choose an arm's learning rate; none where the budget has but one."""
        rates = self.rates(base)
        return [self._tuning_trial(rate, arm, settings) for rate in rates] if len(rates) > 1 else []

    def tried(self, arm: str, base: float = 0.0, **settings: Any) -> dict[float, float]:
        """Learning rates, ascending, with the held-out loss that each gave on a seed that does not count.

        The grid is widened while its best is at an end (tuning.py). Empty where the budget has but one rate.
        """
        trials = self.tuning_trials(arm, base, **settings)
        return search([rate_of(trial) for trial in trials], lambda rate: self._loss_at(rate, arm, settings))

    def tuned(self, arm: str, base: float = 0.0, **settings: Any) -> float:
        """Return the best of the learning rates that are tried for an arm."""
        tried = self.tried(arm, base, **settings)
        if not tried:
            return self.rates(base)[0]
        best = min(tried, key=tried.__getitem__)
        at_the_edge = best in (min(tried), max(tried))
        self.tunings[arm] = {"tried": list(tried.items()), "chosen": best, "at_the_edge": at_the_edge}
        return best

    def edge_words(self) -> list[str]:
        """Return which arms' best learning rate is the last one that was tried, for the card."""
        arms = [f"{arm} ({found['chosen']:.3g})" for arm, found in self.tunings.items() if found["at_the_edge"]]
        return [f"At the edge of what was tried, the best learning rate of: {'; '.join(arms)}."] if arms else []

    def expected_rate(self, arm: str, base: float = 0.0, **settings: Any) -> float:
        """For plans, which train nothing: the best rate where all that are tried are finished, else the middle one."""

        def kept(rate: float) -> float:
            if not self.store.has_trained(self.note, self._tuning_trial(rate, arm, settings)):
                raise LookupError
            return self._loss_at(rate, arm, settings)

        trials = self.tuning_trials(arm, base, **settings)
        try:
            tried = search([rate_of(trial) for trial in trials], kept)
        except LookupError:
            tried = {}
        return min(tried, key=tried.__getitem__) if tried else base or self.config.training.learning_rate

    def planned(
        self, arm: str, base: float = 0.0, looked: Mapping[str, Any] | None = None, **settings: Any
    ) -> list[Trial]:
        """Return the trainings of an arm whose learning rate is chosen: those that choose it, and those that count.

        looked: what is looked at along those that count.
        """
        chosen = {**settings, **(looked or {}), "learning_rate": self.expected_rate(arm, base, **settings)}
        return [
            *self.tuning_trials(arm, base, **settings),
            *(self.trial(arm, seed, **chosen) for seed in self.seeds),
        ]

    def _tuning_trial(self, rate: float, arm: str, settings: Mapping[str, Any]) -> Trial:
        return self.trial(arm, TUNING_SEED + self.seed, **{**settings, "learning_rate": rate})

    def _loss_at(self, rate: float, arm: str, settings: Mapping[str, Any]) -> float:
        try:
            return self.train(self._tuning_trial(rate, arm, settings)).loss
        except TrainingError:  # a rate at which training diverges is not the best one
            return math.inf

    @property
    def tuning_words(self) -> str:
        """Return how the learning rate was chosen, in words, for the card."""
        if self.budget.rates == 1:
            return "The learning rate was not retuned: this budget forbids it."
        rates = ", ".join(f"{rate:g}" for rate in self.rates())
        return (
            f"The learning rate of each arm is the best of {rates} on a seed of its own; where that is the lowest or "
            f"the highest, up to {MOST_WIDENED} beyond it are tried as well."
        )


def rate_of(trial: Trial) -> float:
    """Return the learning rate that it trains with."""
    return trial.config.training.learning_rate


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Seed by seed, the first arm less the second."""
    return [a - b for a, b in zip(first, second, strict=True)]
