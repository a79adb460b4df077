"""Where a difference that depends on the number of passes changes its sign, and how sure a few seeds make that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightwell.lab.verdicts.statistics import CONFIDENCE, FEWEST, Numbers


@dataclass(frozen=True)
class Crossing:
    """A place on a logarithmic axis; inf is beyond the last one that was measured, -inf before the first."""

    at: float
    low: float
    high: float
    """The 95 % interval."""
    found: float
    """The share of draws that have a crossing among the places that were measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with None for what is beyond."""
        ends = {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}
        return {**ends, "words": self.words(), "sentence": self.sentence()}

    def sentence(self) -> str:
        """Return what the difference does, in a clause."""
        if math.isfinite(self.at):
            return f"changes its sign at {self.words()} passes"
        return f"is {'above 0 at the most passes' if self.at > 0 else 'below 0 at any passes'} that were measured"

    def words(self) -> str:
        """Return the place with its interval."""
        if not math.isfinite(self.at):
            return "before the first" if self.at < 0 else "beyond the last"
        if self.low == -math.inf and self.high == math.inf:
            return f"{self.at:.3g} (anywhere, by so few seeds)"
        low = "before the first" if self.low == -math.inf else f"{self.low:.3g}"
        high = "beyond the last" if self.high == math.inf else f"{self.high:.3g}"
        return f"{self.at:.3g} [{low}, {high}]"


def crossing_of(
    places: Sequence[float], differences: Sequence[Sequence[float]], seed: int = 0, resamples: int = 2000
) -> Crossing:
    """Return where the mean difference falls through 0.

    places (n,): ascending, positive. differences (n, seeds): a row for each place, a column for each seed. The means
    are drawn as Student's t has them, all places of a seed together; from fewer than FEWEST seeds the interval is all
    there is.
    """
    values = np.asarray(differences, dtype=np.float64)
    drawn = [falls_at(places, means) for means in _drawn_means(values, np.random.default_rng(seed), resamples)]
    tail = (1.0 - CONFIDENCE) / 2.0
    if values.shape[1] < FEWEST:
        return Crossing(falls_at(places, values.mean(axis=1)), -math.inf, math.inf, float(np.isfinite(drawn).mean()))
    low, high = (float(np.quantile(drawn, q, method="inverted_cdf")) for q in (tail, 1.0 - tail))
    return Crossing(falls_at(places, values.mean(axis=1)), low, high, float(np.isfinite(drawn).mean()))


def _drawn_means(values: Numbers, draw: np.random.Generator, count: int) -> Numbers:
    """Return where the true means may be, (count, n): multivariate t with seeds - 1 degrees of freedom."""
    seeds = values.shape[1]
    centre = values.mean(axis=1)
    if seeds < 2:
        return np.tile(centre, (count, 1))
    apart = (values - centre[:, None]) / math.sqrt((seeds - 1) * seeds)
    shifts = draw.normal(size=(count, seeds)) @ apart.T
    means: Numbers = centre + shifts / np.sqrt(draw.chisquare(seeds - 1, size=(count, 1)) / (seeds - 1))
    return means


def falls_at(places: Sequence[float], values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the first place where values go from above 0 to 0 or below, between two by a straight line in log(place).

    inf where they end above 0 without that; -inf where they are at 0 or below from the start.
    """
    for i in range(len(values) - 1):
        here, after = float(values[i]), float(values[i + 1])
        if here > 0.0 >= after:
            share = here / (here - after)
            return math.exp((1.0 - share) * math.log(places[i]) + share * math.log(places[i + 1]))
    return math.inf if values[-1] > 0.0 else -math.inf
