"""The lab's statistics: known answers, and the error rates that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from lightwell.lab.verdicts.statistics import (
    FEWEST,
    MOST_SEEDS,
    Numbers,
    block_bootstrap,
    fit_line,
    paired_effect,
    seeds_for_width,
    seeds_needed,
    sign_flip,
    smallest_effect,
)

FINITE = st.floats(-100, 100, allow_nan=False)


def half_width(values: Numbers) -> float:
    """Of the t interval, by the formula itself."""
    n = len(values)
    return float(t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))


@pytest.mark.parametrize(("n", "expected"), [(3, 3.26), (5, 1.68), (14, 0.81), (30, 0.53)])
def test_where_only_the_t_test_is_asked_the_smallest_effect_is_its_own(n: int, expected: float) -> None:
    assert smallest_effect(n) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("n", [6, 8, 10, 13])
def test_where_both_tests_are_asked_both_are_counted(n: int) -> None:
    pairs = np.random.default_rng(1).normal(smallest_effect(n), 1.0, (2000, n))
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # the sign-flip test, written out
    as_far = np.abs(pairs @ signs.T) >= np.abs(pairs.sum(axis=1))[:, None] - 1e-9
    found = [abs(row.mean()) > half_width(row) and p <= 0.05 for row, p in zip(pairs, as_far.mean(axis=1), strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("n", "expected"), [(6, 1.8117), (8, 1.1944), (10, 1.0190), (13, 0.8562)])
def test_the_smallest_effect_of_both_tests(n: int, expected: float) -> None:
    """By value: the width of the t interval is that of n - 1 degrees of freedom."""
    assert smallest_effect(n) == pytest.approx(expected, abs=2e-3)


def test_more_seeds_show_smaller_effects_from_the_fewest_on() -> None:
    effects = [smallest_effect(n) for n in range(FEWEST, 20)]
    assert effects == sorted(effects, reverse=True)


def test_the_interval_is_that_of_the_formula() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.5])
    found = paired_effect(values.tolist())
    assert [found.mean, found.n] == pytest.approx([0.275, 4])
    assert [found.low, found.high] == pytest.approx([0.275 - half_width(values), 0.275 + half_width(values)])


@pytest.mark.parametrize(("n", "expected"), [(3, 2 / 8), (6, 2 / 64), (8, 2 / 256)])
def test_the_smallest_p_of_the_sign_flip_test(n: int, expected: float) -> None:
    assert sign_flip(np.arange(1.0, n + 1)) == pytest.approx(expected)


def test_the_sign_flip_test_counts_all_signs() -> None:
    values = np.array([3.0, -1.0, 2.0, 0.5])
    signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(4)] for number in range(16)])
    means = np.abs((signs * values).mean(axis=1))
    assert sign_flip(values) == pytest.approx(np.mean(means >= abs(values.mean()) - 1e-12))


@given(st.lists(FINITE, min_size=2, max_size=8))
def test_an_effect_turned_round_is_the_same_effect(values: list[float]) -> None:
    one, other = paired_effect(values), paired_effect([-value for value in values])
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high)
    assert one.p == pytest.approx(other.p)


def test_one_difference_says_nothing_about_its_uncertainty() -> None:
    found = paired_effect([0.4])
    assert (found.mean, found.low, found.high, found.p) == (0.4, -math.inf, math.inf, 1.0)


def test_equal_differences_have_no_width() -> None:
    found = paired_effect([0.25] * 6)
    assert (found.low, found.high) == (0.25, 0.25)


def test_a_line_is_found() -> None:
    found = fit_line([1, 2, 4, 8], [3.0, 5.0, 9.0, 17.0])
    assert [found.intercept, found.slope, found.r_squared] == pytest.approx([1, 2, 1])
    scattered = fit_line([0, 1, 2], [0.0, 2.0, 1.0])
    assert [scattered.intercept, scattered.slope, scattered.r_squared] == pytest.approx([0.5, 0.5, 0.25])


def test_blocks_are_drawn_as_wholes() -> None:
    # Within a block all is equal: drawn number by number, the interval would be ten times too narrow.
    blocks = [np.full(100, value) for value in np.random.default_rng(2).normal(size=30)]
    low, high = block_bootstrap(blocks, lambda numbers: float(numbers.mean()))
    deviation = np.std([block[0] for block in blocks]) / math.sqrt(30)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_the_same_seed_draws_the_same_blocks() -> None:
    blocks = [np.array([float(i)]) for i in range(9)]

    def mean(numbers: Numbers) -> float:
        return float(numbers.mean())

    assert block_bootstrap(blocks, mean, seed=3, resamples=99) == block_bootstrap(blocks, mean, seed=3, resamples=99)
    assert block_bootstrap(blocks, mean, seed=3, resamples=99) != block_bootstrap(blocks, mean, seed=4, resamples=99)


def test_an_effect_by_value() -> None:
    effect = paired_effect([0.1, 0.3, 0.2, 0.5, -0.1, 0.2])
    assert [effect.mean, effect.low, effect.high] == pytest.approx([0.2, -0.009887, 0.409887], abs=1e-6)
    assert effect.n == 6
    assert effect.p == pytest.approx(6 / 64)
    assert effect.bootstrap == pytest.approx((0.05, 1 / 3))


def test_seeds_needed_by_value() -> None:
    assert [seeds_needed(0.02, 0.03), seeds_needed(-0.02, 0.03), seeds_needed(0.0, 0.1)] == [20, 20, MOST_SEEDS]
    assert [seeds_for_width(0.01, 0.03), seeds_for_width(0.1, 0.0), seeds_for_width(0.0, 1.0)] == [
        38,
        FEWEST,
        MOST_SEEDS,
    ]


def test_seeds_needed_are_enough_and_no_more() -> None:
    needed = seeds_needed(0.02, 0.03)
    assert smallest_effect(needed) * 0.03 <= 0.02 < smallest_effect(needed - 1) * 0.03
    assert seeds_needed(0.02, 0.0) == FEWEST
    assert seeds_needed(0.0, 0.0) == FEWEST


def test_what_no_difference_and_many_differences_give() -> None:
    nothing = paired_effect([])
    assert math.isnan(nothing.mean)
    assert (nothing.low, nothing.high, nothing.n, nothing.p) == (-math.inf, math.inf, 0, 1.0)
    same = paired_effect([0.0] * 6)
    assert (same.mean, same.low, same.high, same.n, same.p, same.bootstrap) == (0.0, 0.0, 0.0, 6, 1.0, (0.0, 0.0))
    assert paired_effect([0.25] * 6).p == pytest.approx(2 / 64)
    assert sign_flip(np.arange(1.0, 15)) == pytest.approx(2 / 2**14, abs=1e-3)  # drawn, no longer counted


def test_the_number_of_seeds_for_a_width_is_the_first_that_is_enough() -> None:
    for half, deviation in ((0.02, 0.03), (0.01, 0.03), (0.05, 0.05)):
        needed = seeds_for_width(half, deviation)
        widths = [float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n) for n in (needed - 1, needed)]
        assert widths[1] < half
        assert needed == FEWEST or widths[0] >= half
    assert seeds_for_width(0.0001, 1.0) == seeds_needed(0.0001, 1.0) == MOST_SEEDS


def test_the_interval_of_blocks_by_value() -> None:
    """Of two blocks, drawn twice each: both alike in half of the draws."""
    blocks = [np.zeros(3), np.ones(1)]  # blocks of unequal lengths: the mean is 0, 0.25 or 1
    assert block_bootstrap(blocks, lambda numbers: float(numbers.mean())) == (0.0, 1.0)
    assert block_bootstrap([np.array([4.0])], lambda numbers: float(numbers.sum()), resamples=3) == (4.0, 4.0)
    seen: list[float] = []

    def recorded(numbers: Numbers) -> float:
        seen.append(float(numbers.mean()))
        return seen[-1]

    block_bootstrap(blocks, recorded, resamples=50)
    assert set(seen) == {0.0, 0.25, 1.0}
    many = [np.array([float(i)]) for i in range(100)]
    low, high = block_bootstrap(many, lambda numbers: float(numbers[0]))
    assert [low, high] == pytest.approx([2.0, 97.0], abs=1.5)  # a number of 100, drawn alike: its 2.5 % and 97.5 %
