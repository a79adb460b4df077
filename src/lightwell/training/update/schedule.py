"""The learning rate over a run, as a share of its peak: up in a straight line, then down as the schedule says.

1 |    ______________          cosine: half a cosine from the peak to final_learning_rate
  |   /              \\         wsd: stable, then a straight line over the last decay_fraction of the steps
  |  /                \\        constant: stable to the end
0 | /                  \\__     final_learning_rate, reached at the last step
"""

from __future__ import annotations

import math

from lightwell.training.settings.config import TrainConfig


def learning_rate_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Return the share of the peak learning rate that update `step` (0 ... steps - 1) takes; later ones take the last
    share.

    Warm-up is a straight line that is above 0 at the first update and 1 at its last one. The cosine is Loshchilov &
    Hutter 2017 (SGDR, equation 5, one cycle); wsd is Hu 2024 (MiniCPM, section 4), with a linear decay (Hägele 2024).
    """
    warmup = warmup_length(steps, config)
    if step < warmup:
        return (step + 1) / warmup
    decay = _decay_progress(min(step, steps - 1), steps, warmup, config)
    return config.final_learning_rate + (1.0 - config.final_learning_rate) * (1.0 - decay)


def warmup_length(steps: int, config: TrainConfig) -> int:
    """Return the updates that warm-up takes in a run of `steps`: warmup_steps, but at most half of the run.

    A short trial run (`--steps 20`) with the ordinary warm-up would otherwise never reach its peak, and learn nothing.
    """
    return min(config.warmup_steps, steps // 2)


def stable_steps(steps: int, config: TrainConfig) -> int:
    """Return the updates at the beginning, warm-up included, whose learning rates do not depend on how many follow
    them.
    """
    if config.schedule == "cosine" or warmup_length(steps, config) < config.warmup_steps:
        return 0
    if config.schedule == "constant":
        return steps
    return steps - min(round(config.decay_fraction * steps), steps - warmup_length(steps, config))


def _decay_progress(step: int, steps: int, warmup: int, config: TrainConfig) -> float:
    """Return how much of the way from the peak to the final learning rate is done at `step`: 0 none, 1 all."""
    if config.schedule == "constant":
        return 0.0
    if config.schedule == "cosine":
        peak = max(warmup - 1, 0)  # the update that has the peak itself
        share = (step - peak) / max(steps - 1 - peak, 1)
        return 0.5 * (1.0 - math.cos(math.pi * share))
    decay_steps = min(round(config.decay_fraction * steps), steps - warmup)
    return max(step - (steps - decay_steps) + 1, 0) / max(decay_steps, 1)
