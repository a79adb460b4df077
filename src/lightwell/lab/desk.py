"""The desk that an experiment works at: its text, its base configuration, its budget, and what is finished already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightwell.lab.budget import Budget
from lightwell.lab.store import Store
from lightwell.lab.trial import Change, Look, Trained, Trial, train_trial
from lightwell.text.prepare import Corpus
from lightwell.training.config import RunConfig

TUNING_SEED = 1000
"""Learning rates are chosen on seeds from here on, and confirmed on others."""
RATE_STEP = 3.0
"""From one learning rate of a grid to the next."""


@dataclass
class Desk:
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

    @property
    def seeds(self) -> range:
        """The seeds that count. Those that learning rates are tried on come from elsewhere."""
        return range(self.seed, self.seed + self.budget.seeds)

    def trial(
        self, arm: str, seed: int, *, change: str = "", look: str = "", looks: int = 0, text_tokens: int = 0,
        **settings: Any,
    ) -> Trial:  # fmt: skip
        """A training of an arm: the base configuration with settings replaced."""
        return Trial(arm, seed, self.config.with_values(settings), change, look, looks, text_tokens)

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
        """The results of an arm on all seeds that count."""
        return [self.train(self.trial(arm, seed, **settings)) for seed in self.seeds]

    def measure(self, name: str, work: Callable[[], Any], **settings: Any) -> Any:
        """Plain values that `work` returns; settings: all that decides them, beside the text and the base settings."""
        whole = {"config": self.config.to_dict(), "draws": self.budget.draws, **settings}
        return self.store.measured(self.note, name, whole, work)

    def rates(self, base: float = 0.0) -> list[float]:
        """The learning rates that are tried for an arm: as many as the budget has, around the base."""
        base, count = base or self.config.training.learning_rate, self.budget.rates
        return [base * RATE_STEP ** (i - count // 2) for i in range(count)]

    def tuning_trials(self, arm: str, base: float = 0.0, **settings: Any) -> list[Trial]:
        """The trainings that choose an arm's learning rate; none where the budget has but one."""
        rates = self.rates(base)
        if len(rates) == 1:
            return []
        return [self.trial(arm, TUNING_SEED + self.seed, **{**settings, "learning_rate": rate}) for rate in rates]

    def tuned(self, arm: str, base: float = 0.0, **settings: Any) -> float:
        """The learning rate of the grid with the lowest held-out loss for this arm, on a seed that does not count."""
        trials = self.tuning_trials(arm, base, **settings)
        if not trials:
            return self.rates(base)[0]
        losses = [self.train(trial).loss for trial in trials]
        return trials[losses.index(min(losses))].config.training.learning_rate

    @property
    def tuning_words(self) -> str:
        """How the learning rate was chosen, in words, for the card."""
        if self.budget.rates == 1:
            return "The learning rate was not retuned: this budget forbids it."
        rates = ", ".join(f"{rate:g}" for rate in self.rates())
        return f"The learning rate of each arm is the best of {rates} on a seed of its own."


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Seed by seed, the first arm less the second."""
    return [a - b for a, b in zip(first, second, strict=True)]
