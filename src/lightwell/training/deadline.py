"""A run that was asked for minutes: its number of steps follows the pace until the learning rate begins to fall.

As long as the learning rate is stable, no weight depends on how many steps there will be. So the number may be set
anew from the pace so far, evaluations included, and a run of so many steps given from the start would have the very
same weights. From the first step of the decay on it stands fast.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from dataclasses import dataclass, field

from lightwell.training.config import RunConfig
from lightwell.training.schedule import stable_steps

AT_THE_END = 3.0
"""Seconds kept for what follows the last step: an evaluation, a sample, a checkpoint, the curve."""
FIRST_STEPS = 5
"""Steps after which the pace is believed; the first ones also wait for compilation and for memory."""
RECENT = 15.0
"""Seconds over which the pace is taken: processors slow down as they warm up."""


@dataclass
class Deadline:
    """When to be finished, and when the last steps were done; times are those of time.monotonic()."""

    ends: float
    recent: deque[tuple[int, float]] = field(default_factory=deque)
    """Step and time, oldest first."""

    def settle(self, config: RunConfig, step: int) -> RunConfig:
        """The configuration with as many steps as fit, asked after each finished step of the stable phase."""
        now = time.monotonic()
        if step >= FIRST_STEPS:
            self.recent.append((step, now))
        if len(self.recent) < 2:
            return config
        while now - self.recent[1][1] > RECENT:
            self.recent.popleft()
        first, since = self.recent[0]
        left = max(0.0, self.ends - AT_THE_END - now) * (step - first) / (now - since)
        return _with_steps(config, step, round(step + left))


def is_open(config: RunConfig, step: int) -> bool:
    """Whether, after `step` finished steps, the learning rate is still stable, so that more or fewer may follow."""
    return step < stable_steps(config.training.steps, config.training)


def _with_steps(config: RunConfig, step: int, steps: int) -> RunConfig:
    """`steps`, or, where its stable phase would be over already, the fewest whose next step begins to decay."""
    least = step
    while stable_steps(max(steps, least), config.training) < step:
        least = max(steps, least) + 1
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=max(steps, least)))
