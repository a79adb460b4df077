"""What a few paired runs can say: an interval, an exact test, and the smallest effect that so many could show.

The unit is a training run. Two arms share initialisation, order of the data and evaluation tokens for each seed, and
the differences between them are what is analysed. All of it is scipy's, but for the block bootstrap.
"""

from __future__ import annotations

import bisect
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Numbers = NDArray[np.float64]
CONFIDENCE = 0.95
POWER = 0.8
LEVEL = 0.05
FEWEST = 6
"""Seeds for a verdict; with fewer, the exact test cannot reach 5 %, and what comes of it is exploratory."""
MOST_EXACT, SIMULATED = 13, 4000
"""Pairs up to which the sign-flip test's power is counted, and in so many experiments."""
MOST_SEEDS = 1000
"""Where more would be needed, it is said to be that many at least."""


@dataclass(frozen=True)
class Effect:
    """A mean difference, with what it is uncertain by."""

    mean: float
    low: float
    high: float
    """The 95 % interval: of Student's t for differences."""
    n: int
    p: float
    """The p of the exact two-sided sign-flip test; 2 / 2^n at best."""
    bootstrap: tuple[float, float]
    """The bias-corrected and accelerated bootstrap's interval (Efron 1987), as a second opinion."""


def paired_effect(differences: Sequence[float], seed: int = 0) -> Effect:
    """Return the effect that paired differences show; from fewer than two, nothing but the mean follows (nan)."""
    values = np.asarray(differences, dtype=np.float64)
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    if n < 2:
        return Effect(mean, -math.inf, math.inf, n, 1.0, (-math.inf, math.inf))
    if np.ptp(values) == 0.0:  # every interval has no width
        return Effect(mean, mean, mean, n, sign_flip(values), (mean, mean))
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    with warnings.catch_warnings():  # where nearly all values are alike there is no such interval: nan
        warnings.simplefilter("ignore")
        bootstrap = stats.bootstrap(
            (values,), np.mean, confidence_level=CONFIDENCE, method="BCa", rng=np.random.default_rng(seed)
        ).confidence_interval
    again = (float(bootstrap.low), float(bootstrap.high))
    return Effect(mean, float(interval.low), float(interval.high), n, sign_flip(values), again)


def sign_flip(differences: Numbers) -> float:
    """Return the share of all 2^n choices of signs whose mean is as far from 0 (Fisher 1935).

    From n = 14 on, 10,000 choices are drawn.
    """
    if not np.any(differences):
        return 1.0
    result = stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=10_000,
        rng=np.random.default_rng(0),
        vectorized=True,
    )
    return float(result.pvalue)


@functools.cache
def smallest_effect(n: int, power: float = POWER) -> float:
    """Return the effect, in standard deviations of the differences, that n pairs show with this power.

    The rule's tests are Student's t test (5 %), whose power has a formula, and from FEWEST to MOST_EXACT pairs the
    sign-flip test, which has to agree and whose power is counted in simulated experiments. With more pairs the two
    hardly ever differ.
    """
    if n < 2:
        return math.inf
    threshold = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, n - 1))

    def lacking(effect: float) -> float:
        shift = effect * math.sqrt(n)
        power_here = stats.nct.sf(threshold, n - 1, shift) + stats.nct.cdf(-threshold, n - 1, shift)
        # Far out, scipy gives nan for what is 1.
        return float(np.nan_to_num(power_here, nan=1.0)) - power

    by_t = float(optimize.brentq(lacking, 0.0, 60.0 / math.sqrt(n)))
    if not FEWEST <= n <= MOST_EXACT:
        return by_t
    shown_by_both = _simulated(n, threshold)
    return float(optimize.brentq(lambda effect: shown_by_both(effect) - power, 0.9 * by_t, 3.0 * by_t, xtol=1e-3))


def _simulated(n: int, threshold: float) -> Callable[[float], float]:
    """Return a function of an effect: the share of simulated experiments with n pairs in which both tests show it."""
    draws = np.random.default_rng(n).normal(size=(SIMULATED, n))
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1  # half of all signs: the others are their opposites
    signs = 1.0 - 2.0 * bits
    flipped, sums, width = draws @ signs.T, signs.sum(axis=1), threshold * draws.std(axis=1, ddof=1) / math.sqrt(n)

    def share(effect: float) -> float:
        means = draws.mean(axis=1) + effect
        as_far = np.abs(flipped + effect * sums) >= np.abs(means * n)[:, None] - 1e-9
        return float(np.mean((np.abs(means) > width) & (as_far.mean(axis=1) <= LEVEL)))

    return share


def seeds_needed(difference: float, deviation: float) -> int:
    """Return how many pairs, FEWEST at least, would show such a difference where differences vary by this deviation."""
    if deviation == 0.0 or difference == 0.0:
        return FEWEST if deviation == 0.0 else MOST_SEEDS
    # More seeds show smaller effects: the first that is small enough is found by halving.
    return bisect.bisect_left(range(MOST_SEEDS), True, lo=FEWEST, key=lambda n: _shows(n, difference, deviation))


def seeds_for_width(half_width: float, deviation: float) -> int:
    """Return how many pairs, FEWEST at least, have a 95 % interval no wider to either side; MOST_SEEDS if too many."""
    if half_width <= 0.0:
        return MOST_SEEDS

    def narrow(n: int) -> bool:
        return bool(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, n - 1) * deviation / math.sqrt(n) < half_width)

    return bisect.bisect_left(range(MOST_SEEDS), True, lo=FEWEST, key=narrow)


def _shows(n: int, difference: float, deviation: float) -> bool:
    return smallest_effect(n) * deviation <= abs(difference)


@dataclass(frozen=True)
class Line:
    """A straight line through points."""

    intercept: float
    slope: float
    r_squared: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Return the line of least squares."""
    line = stats.linregress(x, y)
    return Line(float(line.intercept), float(line.slope), float(line.rvalue) ** 2)


def block_bootstrap(
    blocks: Sequence[Numbers], statistic: Callable[[Numbers], float], seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of numbers in blocks (documents, draws), which are drawn undivided.

    blocks: arrays that are alike but for their first axis; `statistic` gets chosen ones, one after the other.
    """
    draw = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([blocks[i] for i in draw.integers(len(blocks), size=len(blocks))]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    return float(low), float(high)
