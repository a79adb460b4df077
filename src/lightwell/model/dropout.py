"""Dropout (Srivastava 2014): in training each value is kept with probability 1 - p, and what is kept grows by 1/(1-p).

The mask is drawn first and used after, so that it can be looked at, and so that attention in blocks of queries uses the
very mask that attention in one piece would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""Probabilities are rounded to a multiple of 1/65,536, never to 0 or 1."""


@dataclass(frozen=True, eq=False)
class DropoutMask:
    """Which values are kept, and how likely that was for each of them."""

    mask: Tensor
    """A bool, True for what is kept."""
    probability: float
    """1 - p, as it was rounded."""

    def __call__(self, x: Tensor) -> Tensor:
        """x, of the shape of the mask: what is kept is divided by `probability`, the rest is 0."""
        return x * self.mask * (1.0 / self.probability)

    def block(self, rows: slice, end: int) -> DropoutMask:
        """Return the mask of a block: these rows (the last dimension but one) and the columns before `end`."""
        return DropoutMask(self.mask[..., rows, :end], self.probability)


def sample_dropout_mask(shape: tuple[int, ...], p: float, device: torch.device) -> DropoutMask:
    """Draw a mask from torch's random stream of that device, each value by itself; p (0 < p < 1): of dropping one."""
    level = min(max(round(p * LEVELS), 1), LEVELS - 1)
    return DropoutMask(_random_levels(shape, device) >= level - LEVELS // 2, 1.0 - level / LEVELS)


def _random_levels(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform int16, four out of each 64 random bits: a tenth of the time that torch takes for as many draws.

    That counts on a CPU, where dropout would otherwise take a third of a step (docs/decisions.md).
    """
    count = math.prod(shape)
    words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 4),), device=device)  # random_() would break compiled code
    return words.view(torch.int16)[:count].view(shape)


class Dropout(nn.Module):
    """Dropout on any tensor, in training only."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape and dtype."""
        return sample_dropout_mask(x.shape, self.p, x.device)(x) if self.training and self.p else x

    def extra_repr(self) -> str:
        """Return what `print(model)` shows, as for torch's own dropout."""
        return f"p={self.p}"
