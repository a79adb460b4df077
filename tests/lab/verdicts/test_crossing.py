"""Where a difference changes its sign, by values."""

from __future__ import annotations

import math

import pytest

from lightwell.lab.verdicts.crossing import Crossing, crossing_of, falls_at

PASSES = [1.0, 5.0, 20.0]
QUIET = [
    [0.10, 0.12, 0.09, 0.11, 0.08, 0.13],
    [0.04, 0.05, 0.02, 0.06, 0.03, 0.04],
    [-0.02, -0.01, -0.03, 0.0, -0.02, -0.04],
]
LOUD = [QUIET[0], [0.04, 0.05, -0.06, 0.06, 0.03, 0.04], [-0.02, -0.01, -0.03, 0.05, -0.02, -0.04]]


def test_the_line_is_straight_in_the_logarithm_of_the_place() -> None:
    # The means are 0.04 at 5 and -0.02 at 20: two thirds of the way in the logarithm.
    assert crossing_of(PASSES, QUIET).at == pytest.approx(5.0 ** (1 / 3) * 20.0 ** (2 / 3))


def test_the_interval_is_that_of_a_t_distribution() -> None:
    quiet, loud = crossing_of(PASSES, QUIET), crossing_of(PASSES, LOUD)
    assert [quiet.low, quiet.high, quiet.found] == pytest.approx([9.14, 17.54, 0.9905], rel=1e-3)
    assert [loud.low, loud.high, loud.found] == pytest.approx([3.714, math.inf, 0.8165], rel=1e-3)
    assert crossing_of(PASSES, QUIET, seed=1).low != quiet.low


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ([0.1, 0.0, -0.1], 5.0),  # exactly 0 there
        ([0.0, -0.1, -0.2], -math.inf),  # at 0 from the start
        ([0.1, 0.1, 0.0], 20.0),
        ([-0.1, 0.1, -0.1], 10.0),  # the first fall, after a rise
        ([0.1, -0.1, 0.1], math.sqrt(5.0)),
        ([-0.1, -0.1, 0.1], math.inf),
    ],
)
def test_the_first_fall_through_zero(values: list[float], at: float) -> None:
    assert falls_at(PASSES, values) == pytest.approx(at)


def test_a_crossing_in_words() -> None:
    assert Crossing(12.6, 9.14, 17.5, 1.0).words() == "12.6 [9.14, 17.5]"
    assert Crossing(12.6, -math.inf, math.inf, 1.0).words() == "12.6 (anywhere, by so few seeds)"
    assert Crossing(12.6, -math.inf, 17.5, 1.0).words() == "12.6 [before the first, 17.5]"
    assert Crossing(12.6, 9.14, math.inf, 1.0).sentence() == "changes its sign at 12.6 [9.14, beyond the last] passes"
    assert Crossing(-math.inf, -math.inf, 5.0, 0.1).sentence() == "is below 0 at any passes that were measured"
    assert Crossing(-math.inf, -math.inf, 5.0, 0.1).words() == "before the first"
    assert Crossing(math.inf, 1.0, math.inf, 0.5).to_dict() == {
        "at": None, "low": 1.0, "high": None, "found": 0.5, "words": "beyond the last",
        "sentence": "is above 0 at the most passes that were measured",
    }  # fmt: skip


def test_fewer_seeds_than_a_verdict_needs_have_no_interval() -> None:
    five, six = ([row[:n] for row in QUIET] for n in (5, 6))
    few, enough = crossing_of(PASSES, five), crossing_of(PASSES, six)
    assert (few.low, few.high) == (-math.inf, math.inf)
    assert 0.5 < few.found < 1.0
    assert few.at == pytest.approx(falls_at(PASSES, [sum(row) / 5 for row in five]))
    assert math.isfinite(enough.low)
    one = crossing_of(PASSES, [[0.1], [0.04], [-0.02]])  # one seed: its own line, and no draws of another
    assert [one.at, one.found] == pytest.approx([5.0 ** (1 / 3) * 20.0 ** (2 / 3), 1.0])
    assert crossing_of(PASSES, [[0.1], [0.04], [0.02]]).found == 0.0


def test_the_ends_of_an_interval_are_quantiles_of_the_draws() -> None:
    """Where all seeds are alike, so are all draws."""
    found = crossing_of(PASSES, [[0.1] * 6, [0.04] * 6, [-0.02] * 6])
    assert found.low == pytest.approx(found.at) == pytest.approx(found.high)
    assert Crossing(12.6, 9.14, 17.5, 1.0).to_dict() == {
        "at": 12.6, "low": 9.14, "high": 17.5, "found": 1.0, "words": "12.6 [9.14, 17.5]",
        "sentence": "changes its sign at 12.6 [9.14, 17.5] passes",
    }  # fmt: skip
