from __future__ import annotations

import collections
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightwell.batches.order import draw, permute

SEEDS = st.integers(min_value=0, max_value=2**70)
EPOCHS = st.integers(min_value=0, max_value=2**40)


@given(st.integers(min_value=1, max_value=3000), SEEDS, EPOCHS)
def test_permute_is_a_bijection(n: int, seed: int, epoch: int) -> None:
    order = permute(np.arange(n), n, seed, epoch)
    assert sorted(order.tolist()) == list(range(n))


@given(st.integers(min_value=1, max_value=2**50), SEEDS, EPOCHS, st.data())
def test_one_position_is_computed_alone(n: int, seed: int, epoch: int, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(min_value=0, max_value=n - 1), min_size=1, max_size=8, unique=True))
    together = permute(np.array(positions), n, seed, epoch)
    assert [permute(position, n, seed, epoch) for position in positions] == together.tolist()
    assert len(set(together.tolist())) == len(positions)
    assert together.min() >= 0
    assert together.max() < n


@given(st.integers(min_value=1, max_value=500), SEEDS, st.data())
def test_epochs_may_differ_within_one_call(n: int, seed: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 5)), min_size=1, max_size=8))
    positions, epochs = (np.array(column) for column in zip(*pairs, strict=True))
    assert permute(positions, n, seed, epochs).tolist() == [permute(p, n, seed, e) for p, e in pairs]
    assert draw(positions, n, seed, epochs).tolist() == [draw(p, n, seed, e) for p, e in pairs]


def test_all_orders_of_few_are_equally_likely() -> None:
    for n in (2, 3, 4):
        orders = collections.Counter(
            tuple(permute(np.arange(n), n, seed, epoch).tolist()) for seed in range(40) for epoch in range(60)
        )
        possible = list(itertools.permutations(range(n)))
        expected = 2400 / len(possible)
        chi_squared = sum((orders[order] - expected) ** 2 / expected for order in possible)
        degrees = len(possible) - 1
        assert chi_squared < degrees + 4 * (2 * degrees) ** 0.5  # four standard deviations


def test_order_of_many_looks_random() -> None:
    n = 1000
    orders = np.array([permute(np.arange(n), n, seed, 0) for seed in range(200)])
    # A position leads anywhere: its mean over seeds is (n-1)/2, within five standard errors for each of n positions.
    assert np.abs(orders.mean(axis=0) - (n - 1) / 2).max() < 5 * n / 12**0.5 / 200**0.5
    # Neighbours are as far apart as random numbers: (n + 1) / 3 on average.
    assert abs(np.abs(np.diff(orders, axis=1)).mean() - (n + 1) / 3) < 3


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(permute(np.arange(100), 100, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_draw_is_uniform_and_in_range() -> None:
    n, count = 7, 14000
    drawn = np.bincount(draw(np.arange(count), n, 3, 1), minlength=n)
    assert len(drawn) == n
    assert ((drawn - count / n) ** 2 / (count / n)).sum() < 6 + 4 * 12**0.5
