"""A run that was asked for minutes: its number of steps follows the pace until the learning rate begins to fall.

As long as the learning rate is stable, no weight depends on how many steps there will be. So the number may be set
anew from the pace so far, evaluations and samples included, and a run of the configuration that is written down in the
end, with so many steps from the start, has the very same weights. From the first step of the decay on the number stands
fast. A schedule that is never stable (cosine) keeps the one that was planned.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from lightwell.training.settings.config import RunConfig
from lightwell.training.update.schedule import stable_steps

AT_THE_END = 3.0
"""Seconds kept for what follows the last evaluation: a sample, a checkpoint, the curve."""
SAVED_PER_SECOND = 1.5e8
"""Bytes of a checkpoint that are hashed, written and synced in a second; large models need time for that as well."""
BYTES_PER_PARAMETER = 12
"""In a checkpoint: the weight and two moments."""
FIRST_STEPS = 5
"""Steps after which the pace is believed; the first ones also wait for compilation and for memory."""
RECENT = 15.0
"""Seconds of training over which the pace is taken: CPUs slow down as they warm up."""


@dataclass
class Deadline:
    """The time by which a run is to be finished, and the pace at which it goes."""

    ends: float
    """A time of time.monotonic()."""
    ending: float = AT_THE_END
    """Seconds kept for the end, as `ending_seconds` gives them."""
    evaluation: float = 0.0
    """Seconds that scoring the held-out tokens takes."""
    evaluated: float = 0.0
    """Seconds that all evaluations took so far."""
    began: tuple[int, float] | None = None
    """The step from which what happens beside steps and evaluations counts, and the seconds spent beside until then."""
    recent: deque[tuple[int, float]] = field(default_factory=deque)
    """Pairs of a step and the seconds spent in steps until then, oldest first."""

    def update_steps(self, config: RunConfig, step: int, seconds: float) -> RunConfig:
        """Return the configuration with as many steps as fit, asked after each finished step of the stable phase.

        The evaluation of that very step, where there is one, is still to come.

        seconds: spent in training steps so far, without evaluations.
        """
        now = time.monotonic()
        beside = now - seconds - self.evaluated  # of an arbitrary origin, as `now` is
        if step >= FIRST_STEPS:
            self.recent.append((step, seconds))
            self.began = self.began or (step, beside)
        if len(self.recent) < 2 or self.began is None:
            return config
        while seconds - self.recent[1][1] > RECENT:
            self.recent.popleft()
        first, since = self.recent[0]
        per_step = (seconds - since) / (step - first) + max(0.0, beside - self.began[1]) / (step - self.began[0])
        left = self.ends - now - self.ending - self.evaluation * _evaluations_left(config, step)
        steps = round(step + max(0.0, left) / per_step)
        while stable_steps(steps, config.training) < step:  # its stable phase would be over already: the fewest more
            steps += 1
        return config.with_values({"steps": steps})


def ending_seconds(parameters: int) -> float:
    """Return what a model of that size needs after the last evaluation."""
    return AT_THE_END + BYTES_PER_PARAMETER * parameters / SAVED_PER_SECOND


def _evaluations_left(config: RunConfig, step: int) -> int:
    """Return how many evaluations the run has left, that of `step` itself and the last one included."""
    every, steps = config.training.eval_every, config.training.steps
    return 1 + (max(0, steps - 1) // every - (step - 1) // every if every else 0)


def may_change_steps(config: RunConfig, step: int) -> bool:
    """Whether, after `step` finished steps, the learning rate is still stable, so that more or fewer may follow."""
    return step < stable_steps(config.training.steps, config.training)
