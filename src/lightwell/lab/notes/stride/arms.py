"""The arms of note 2: ways to take windows from the first tokens of the text, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightwell.lab.experiments.context import ExperimentContext

EPOCHS = 4
"""Epochs of the loader in all arms at equal epochs: about as many passes are still nearly as good as new text
(Muennighoff 2023, arXiv 2305.16264), so that what is beyond comes from overlap."""


@dataclass(frozen=True)
class Arm:
    """A way to take windows, and for how long: stride L / ratio, `passes` times EPOCHS epochs of the loader."""

    ratio: int
    passes: int
    random: bool = False

    @property
    def units(self) -> int:
        """Return how many times the tokens of EPOCHS epochs without overlap it trains on."""
        return self.ratio * self.passes

    @property
    def plain(self) -> Arm:
        """Return the arm that its learning rate is chosen for: stride L for as many tokens.

        Two arms of as many tokens then differ in their windows alone, and what overlap brings is not its rate.
        """
        return Arm(1, self.units)


@dataclass(frozen=True)
class Arms:
    """The 2 x 2: {equal epochs of the loader, equal tokens} x strides, and the same repetitions without overlap."""

    ratios: tuple[int, ...]

    @classmethod
    def of(cls, context: ExperimentContext) -> Arms:
        """Return as many strides as the budget has time for."""
        return cls({"glance": (1, 4), "night": (1, 2, 4, 8)}.get(context.budget.name, (1, 2, 4)))

    @property
    def most(self) -> int:
        """Return L over the smallest stride."""
        return self.ratios[-1]

    @property
    def without_overlap(self) -> list[Arm]:
        """Return stride L, for as many passes over the text as each stride makes in EPOCHS epochs."""
        return [Arm(1, ratio) for ratio in self.ratios]

    @property
    def equal_epochs(self) -> list[Arm]:
        """Return each stride for EPOCHS epochs."""
        return [Arm(ratio, 1) for ratio in self.ratios]

    @property
    def equal_tokens(self) -> list[Arm]:
        """Return each stride, and random offsets, for the tokens of the smallest one."""
        return [*(Arm(ratio, self.most // ratio) for ratio in self.ratios), Arm(self.most, 1, random=True)]

    @property
    def all(self) -> list[Arm]:
        """Return each arm once."""
        return list(dict.fromkeys([*self.equal_epochs, *self.without_overlap, *self.equal_tokens]))


def prefix_tokens(context: ExperimentContext) -> int:
    """Return how many tokens are trained on: so few that the longest arm takes the budget's steps."""
    config = context.config
    tokens = context.budget.steps * config.batches.batch_size * config.model.context_length
    few = tokens // (EPOCHS * Arms.of(context).most)
    return min(len(context.corpus.train), max(few, 2 * config.model.context_length + 1))


def stride_of(context_length: int, ratio: int) -> int:
    """Return L / ratio, at least 1."""
    return max(1, context_length // ratio)


def name_of(context: ExperimentContext, arm: Arm) -> str:
    """Return an arm in plain words."""
    stride, epochs = stride_of(context.config.model.context_length, arm.ratio), EPOCHS * arm.passes
    if arm.random:
        return f"random offsets, {epochs} epochs as of stride {stride}"
    return f"stride {stride}, {epochs} epochs"


def settings_of(context: ExperimentContext, arm: Arm) -> dict[str, Any]:
    """Return what an arm replaces. Arms of as many tokens take exactly as many steps."""
    config, tokens = context.config, prefix_tokens(context)
    windows = (tokens - 1) // config.model.context_length
    steps = max(1, round(EPOCHS * arm.units * windows / config.batches.batch_size))
    return {
        "stride": stride_of(config.model.context_length, arm.ratio), "sampler": "random" if arm.random else "windows",
        "shuffle": True, "document_boundaries": "cross", "steps": steps, "prefix_tokens": tokens,
        "warmup_steps": min(config.training.warmup_steps, steps // 4),
        "eval_tokens": min(config.training.eval_tokens, tokens - 1),
    }  # fmt: skip
