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
    pairs = np.random.default_rng(1).normal(smallest_effect(n), 1.0, (400, n))
    found = [abs(row.mean()) > half_width(row) and sign_flip(row) <= 0.05 for row in pairs]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


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
