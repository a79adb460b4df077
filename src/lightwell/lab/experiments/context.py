"""What an experiment works with: its text, base configuration and budget, and the store of what is finished already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.budget import Budget
from lightwell.lab.experiments.store import Store
from lightwell.lab.experiments.trial import Change, Probe, Text, Trained, Trial, text_of, train_trial
from lightwell.training.settings.config import RunConfig


@dataclass
class ExperimentContext:
    """What an experiment is given. It asks for trainings and measurements; those that are finished are looked up."""

    note: str
    config: RunConfig
    """The base configuration, resolved: vocabulary, steps and precision are known. Arms replace a few settings."""
    corpus: Corpus
    budget: Budget
    store: Store
    seed: int = 1
    """The first of the seeds that count."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """The note's own changes of the formula, by name."""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    """What it reads from a model along a training, by name."""
    texts: Mapping[str, Text] = field(default_factory=dict)
    """What it trains on beside the session's text, by name."""
    on_progress: Callable[[Trial], None] = lambda trial: None
    """Called after each training that was made now."""
    tunings: dict[str, Any] = field(default_factory=dict)
    """For each arm whose learning rate was chosen: the rates and losses that were tried, and the choice."""

    @property
    def seeds(self) -> range:
        """Return the seeds that count. Those that learning rates are tried on come from elsewhere."""
        return range(self.seed, self.seed + self.budget.seeds)

    def trial(
        self, arm: str, seed: int, *, change: str = "", probe: str = "", probes: int = 0, prefix_tokens: int = 0,
        text: str = "", **settings: Any,
    ) -> Trial:  # fmt: skip
        """Return a training of an arm: the base configuration with settings replaced."""
        return Trial(arm, seed, self.config.with_values(settings), change, probe, probes, prefix_tokens, text)

    def train(self, trial: Trial, *, planned: bool = True) -> Trained:
        """Return the result of a training; planned: whether a plan counts it.

        Raises:
            TrainingError: it diverged.
        """
        change = self.changes[trial.change] if trial.change else None
        probe = self.probes[trial.probe] if trial.probe else None
        made = self.store.made
        trained = self.store.trained(
            self.note,
            trial,
            lambda: train_trial(trial, text_of(trial, self.corpus, self.texts), change, probe),
            planned=planned,
        )
        if self.store.made > made:
            self.on_progress(trial)
        return trained

    def trained(self, arm: str, **settings: Any) -> list[Trained]:
        """Return the results of an arm on all seeds that count."""
        return [self.train(self.trial(arm, seed, **settings)) for seed in self.seeds]

    def measure(self, name: str, work: Callable[[], Any], **settings: Any) -> Any:
        """Return the plain values that `work` returns; settings: what decides them beside the text and the base."""
        decisive = {"config": self.config.to_dict(), "draws": self.budget.draws, **settings}
        return self.store.measured(self.note, name, decisive, work)


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return the first arm less the second, seed by seed."""
    return [a - b for a, b in zip(first, second, strict=True)]
