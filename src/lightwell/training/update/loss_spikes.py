"""Losses far above the usual: told from the noise by a running mean, and a running mean deviation from it."""

from __future__ import annotations

from dataclasses import dataclass

FOLLOW = 0.05
"""The share of each new loss in the usual one: a memory of about 20 steps."""
SETTLED = 50
"""Steps before a spike can be told from a beginning."""
SPIKE = 8.0
"""Mean absolute deviations above the usual loss from which a loss is a spike."""


@dataclass
class LossSpikeDetector:
    """The usual loss of a run; its fields are saved in every checkpoint, and a resumed run goes on from them."""

    losses: int = 0
    """Losses that the next two have followed."""
    usual_loss: float = 0.0
    """In nats per token."""
    usual_deviation: float = 0.0
    """Mean absolute deviation from it."""

    def is_spike(self, loss: float) -> bool:
        """Return whether a loss is far above the usual one, and take it into the usual one.

        What lies beyond the border counts as the border, so that one spike does not hide the next, and a lasting
        change becomes the usual after a while.
        """
        if self.losses == 0:
            self.usual_loss = loss
        settled = self.losses >= SETTLED
        border = self.usual_loss + SPIKE * self.usual_deviation
        followed = min(loss, border) if settled else loss
        self.losses += 1
        self.usual_deviation += FOLLOW * (abs(followed - self.usual_loss) - self.usual_deviation)
        self.usual_loss += FOLLOW * (followed - self.usual_loss)
        return settled and loss > border
