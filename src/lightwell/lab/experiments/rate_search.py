"""The search for an arm's learning rate: a grid, and beyond its ends where the best is at one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

RATE_STEP = 3.0
"""From one learning rate of a grid to the next."""
MOST_WIDENED = 2
"""Rates that are tried beyond a grid."""


def search(rates: Sequence[float], loss_at: Callable[[float], float]) -> dict[float, float]:
    """Return each rate that was tried, ascending, with its loss.

    rates: the grid, ascending. While the best rate is the lowest or the highest of all, one beyond it is tried, so that
    the best has a worse one on either side; after MOST_WIDENED of them it is left at that.
    """
    tried = {rate: loss_at(rate) for rate in rates}
    for _ in range(MOST_WIDENED if tried else 0):
        best = min(tried, key=tried.__getitem__)
        if best not in (min(tried), max(tried)):
            break
        beyond = best / RATE_STEP if best == min(tried) else best * RATE_STEP
        tried[beyond] = loss_at(beyond)
    return dict(sorted(tried.items()))
