"""The rule of verdicts against simulated experiments: no effect, and an effect of the size that is promised.

Differences are normal with standard deviation 1, n of them for an experiment. The rates that are counted are held
against binomial bounds that a rule with the stated rates passes all but once in ten thousand times.
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

from lightwell.lab.verdicts.statistics import FEWEST, LEVEL, smallest_effect
from lightwell.lab.verdicts.verdict import Claim, Rule, decide, overall

EXPERIMENTS = 300
ONCE_IN = 1e-4
TINY = Rule("lower", 1e-9)
"""Nothing counts as no difference, so that each experiment is found, or not settled."""


def kinds_of(n: int, shift: float, rule: Rule = TINY, experiments: int = EXPERIMENTS) -> list[str]:
    """The verdicts of so many experiments with n pairs whose true difference is `shift` standard deviations."""
    draw = np.random.default_rng([n, round(1000 * abs(shift))])
    # The bootstrap is a second opinion that decides nothing; it is left out, for it takes most of the time.
    with patch("lightwell.lab.verdicts.statistics.stats.bootstrap", side_effect=_no_bootstrap):
        return [decide(rule, draw.normal(shift, 1.0, size=n).tolist()).kind for _ in range(experiments)]


def _no_bootstrap(*_: object, **__: object) -> object:
    class Found:
        class confidence_interval:  # noqa: N801 - scipy's name
            low = high = 0.0

    return Found


def found(kinds: list[str]) -> int:
    return sum(kind in ("supported", "contradicted") for kind in kinds)


@pytest.mark.parametrize("n", [2, 3, 6, 8])
def test_two_identical_arms_are_told_apart_no_more_often_than_the_stated_rate(n: int) -> None:
    kinds = kinds_of(n, 0.0)
    most = int(stats.binom.isf(ONCE_IN, EXPERIMENTS, LEVEL))
    assert found(kinds) <= most
    assert set(kinds) <= {"supported", "contradicted", "not settled"}


def test_without_the_rule_a_difference_of_any_sign_would_always_be_found() -> None:
    """The bound above can be broken: a rule that looks at the sign of the mean alone breaks it."""
    draw = np.random.default_rng(0)
    signs = ["supported" if draw.normal(size=6).mean() < 0 else "contradicted" for _ in range(EXPERIMENTS)]
    assert found(signs) > stats.binom.isf(ONCE_IN, EXPERIMENTS, LEVEL)


@pytest.mark.parametrize("n", [3, 6, 7, 8, 10])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_effect_of_the_promised_size_is_found_four_times_in_five(n: int, sign: float) -> None:
    kinds = kinds_of(n, sign * smallest_effect(n))
    right = "supported" if sign < 0 else "contradicted"
    share = kinds.count(right) / EXPERIMENTS
    assert share == pytest.approx(0.8, abs=0.08)
    assert found(kinds) == kinds.count(right)


def test_identical_arms_end_as_no_difference_where_runs_differ_little() -> None:
    kinds = kinds_of(8, 0.0, Rule("lower", 3.0))
    assert kinds.count("no difference") / EXPERIMENTS > 0.95


@pytest.mark.parametrize("n", range(2, 9))
def test_few_seeds_are_exploratory_whatever_they_show(n: int) -> None:
    draw = np.random.default_rng(n)
    for shift in (0.0, -20.0):
        assert decide(TINY, draw.normal(shift, 1.0, size=n).tolist()).exploratory == (n < FEWEST)


@pytest.mark.parametrize(("n", "claims"), [(2, 3), (8, 2), (8, 3)])
@pytest.mark.parametrize("smallest", [1e-9, 0.5, 3.0])
def test_claims_without_an_effect_give_a_note_a_verdict_no_more_often_than_their_number_allows(
    n: int, claims: int, smallest: float
) -> None:
    """As many claims as decide on a note, none of which has an effect, with an X from nothing to three deviations."""
    draw = np.random.default_rng([4, n, claims])
    rule = Rule("lower", smallest)
    with patch("lightwell.lab.verdicts.statistics.stats.bootstrap", side_effect=_no_bootstrap):
        kinds = [
            overall([], [Claim.of("", rule, draw.normal(size=n).tolist()) for _ in range(claims)])
            for _ in range(EXPERIMENTS)
        ]
    wrong = sum(kinds.count(kind) for kind in ("supported", "contradicted", "conditional"))
    assert wrong <= stats.binom.isf(ONCE_IN, EXPERIMENTS, min(1.0, claims * LEVEL))
