"""Note 1: noise scales that are known are recovered, memory is a line, micro-batches are the batch; and the whole."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import decoder, text
from lab_house import card_of, context_of
from lightwell.batches.batch import Batch
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.rate_search import TunedArm
from lightwell.lab.experiments.setup import FIXED
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.batch_size import experiment as batch_size
from lightwell.lab.notes.batch_size import gradients as batch_gradients
from lightwell.lab.notes.batch_size.gradient_noise import (
    draw_batches,
    inner_products,
    noise_of_line,
    noise_of_pool,
    noise_of_two_sizes,
    pool_of_windows,
    sequence_gradients,
    two_sizes,
)
from lightwell.tokens.token_file import TokenFile
from lightwell.training.planning.memory import saved_bytes
from tiny import TINY

SIZES = (1, 2, 4, 8, 16, 32, 64)
STEPS = 6


def context_for(folder: Path, name: str = "glance", rates: int = 1) -> ExperimentContext:
    """Next to no steps."""
    settings = {**FIXED, "micro_batch_size": 0, "steps": STEPS}
    return context_of("batch-size", folder, name, rates=rates, draws=24, documents=30, **settings)


def planted(signal: float, noise: float, count: int = 384, width: int = 300) -> torch.Tensor:
    """(N, P) gradients with |G|^2 = signal and tr(Sigma) = noise."""
    draw = np.random.default_rng(5)
    rows = draw.normal(0.0, np.sqrt(noise / width), (count, width))
    rows[:, 0] += np.sqrt(signal)
    return torch.from_numpy(rows).float()


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 20.0), (2.0, 3.0), (0.05, 0.6)])
def test_a_planted_noise_scale_is_found_by_both_estimators(signal: float, noise: float) -> None:
    products = inner_products(planted(signal, noise))
    draws = draw_batches(products, SIZES, draws=64, seed=1)
    line = noise_of_line(draws.squared, SIZES)
    two = noise_of_two_sizes(np.stack([draws.parts[:, 2], draws.squared[:, -1]], axis=1), 4, 64)
    for found in (line, two):
        assert found.signal == pytest.approx(signal, rel=0.2)
        assert found.noise == pytest.approx(noise, rel=0.1)
        assert found.simple == pytest.approx(noise / signal, rel=0.2)
        assert found.share_low < signal / noise < found.share_high
        assert found.to_dict()["low"] == pytest.approx(1.0 / found.share_high)
    assert line.share_low <= two.share <= line.share_high
    assert line.r_squared > 0.98
    foretold = [1.0 / (1.0 + noise / signal / B) for B in SIZES]
    assert draws.cosines.mean(axis=0) == pytest.approx(foretold, abs=0.06)


def test_drawing_from_a_pool_leaves_the_line_straight_and_unbiased() -> None:
    """Over all batches of a pool, not some: the closed form in the module's words, to the last digits."""
    rows = planted(1.0, 4.0, count=6, width=8).double()
    products = inner_products(rows)
    mean = rows.mean(dim=0)
    S = float(((rows - mean) ** 2).sum() / 5)
    for B in (1, 2, 3):
        every = [np.array(chosen) for chosen in itertools.combinations(range(6), B)]
        squared = np.mean([products[np.ix_(each, each)].sum() / B**2 for each in every])
        assert squared == pytest.approx(float(mean @ mean) - S / 6 + S / B, rel=1e-12)
    assert noise_of_pool(products) == pytest.approx((float(mean @ mean) - S / 6, S), rel=1e-12)


def test_gradients_without_noise_have_a_noise_scale_of_zero() -> None:
    products = inner_products(torch.ones(16, 3))
    draws = draw_batches(products, (1, 2, 8), draws=4, seed=0)
    assert noise_of_pool(products) == pytest.approx((3.0, 0.0), abs=1e-12)
    assert draws.cosines == pytest.approx(1.0)
    signals, noises = two_sizes(draws.squared, 1, 8)
    assert signals == pytest.approx(3.0)
    assert noises == pytest.approx(0.0, abs=1e-12)


def test_a_curve_that_is_no_line_breaks_the_law() -> None:
    squared = np.tile([B**-0.25 for B in SIZES], (8, 1))
    drawn = {"pool": 128, "of_pool": {"signal": 0.3, "noise": 0.7}, "sizes": list(SIZES),
             "squared": squared.tolist(), "parts": squared.tolist(),
             "cosines": np.full((8, 7), 0.5).tolist()}  # fmt: skip
    laws = batch_gradients.noise_laws([{"name": "planted", **batch_gradients.estimates(drawn)}])
    assert not laws[0].holds
    assert not laws[2].holds


def test_true_gradients_hardly_ever_break_the_laws_of_the_noise() -> None:
    """Many pools with a known signal, down to none: each draw of them is an experiment in which all laws are true."""
    broken = []
    for seed in range(24):
        signal = (0.0, 0.002, 0.05, 1.0)[seed % 4]
        draw = np.random.default_rng([7, seed])
        rows = draw.normal(0.0, np.sqrt(4.0 / 100), (256, 100))
        rows[:, 0] += np.sqrt(signal)
        products = inner_products(torch.from_numpy(rows).float())
        draws = draw_batches(products, SIZES, draws=32, seed=seed)
        of_signal, noise = noise_of_pool(products)
        drawn = {"pool": 256, "of_pool": {"signal": of_signal, "noise": noise}, "sizes": list(SIZES),
                 "squared": draws.squared.tolist(), "parts": draws.parts.tolist(),
                 "cosines": draws.cosines.tolist()}  # fmt: skip
        laws = batch_gradients.noise_laws([{"name": "", **batch_gradients.estimates(drawn)}])
        broken += [law.text for law in laws if not law.holds]
    assert not broken, broken
    line, two = ({"share": share, "share_low": share - 0.1, "share_high": share + 0.1} for share in (1.0, 1.4))
    assert batch_gradients.errors_apart(line, two) == pytest.approx(0.4 / (0.1 * 2**0.5 / 1.96))


def test_without_a_signal_the_noise_scale_has_no_upper_bound() -> None:
    draws = draw_batches(inner_products(planted(0.0, 5.0)), SIZES, draws=32, seed=1)
    found = noise_of_line(draws.squared, SIZES).to_dict()
    assert found["high"] is None
    assert found["low"] is None or found["low"] > 50
    assert "at least" in batch_gradients.scale_words({**found, "low": 60.0})


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_inner_products_give_the_norm_of_any_batch(chosen: list[int]) -> None:
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    products = inner_products(rows)
    direct = float(rows[chosen].double().mean(dim=0).square().sum())
    assert products[np.ix_(chosen, chosen)].sum() / len(chosen) ** 2 == pytest.approx(direct, rel=1e-5)


def test_the_mean_of_sequences_gradients_is_the_gradient_of_the_batch() -> None:
    model, tokens = decoder(), text(B=6, T=12)
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    rows = sequence_gradients(model, batch)
    direct = batch_gradients.batch_gradient(model, batch, 0)
    torch.testing.assert_close(rows.mean(dim=0), direct, rtol=1e-4, atol=1e-6)
    assert inner_products(rows).sum() / 36 == pytest.approx(float(direct.double().square().sum()), rel=1e-5)


def test_windows_of_the_pool_share_no_target() -> None:
    tokens = TokenFile.from_ids(np.arange(500), vocab_size=500)
    pool = pool_of_windows(tokens, TINY, count=20, seed=1)
    assert pool.targets.shape == (20, 16)
    assert len(set(pool.targets.flatten().tolist())) == 20 * 16


def test_saved_bytes_are_a_line_in_the_batch_size_and_a_byte_more_breaks_the_law() -> None:
    sizes = [1, 2, 3, 8]
    memory = [saved_bytes(TINY, B) for B in sizes]
    assert memory[1] > memory[0]
    assert all(law.holds for law in batch_size.memory_laws(sizes, memory))
    memory[2] += 1
    assert not batch_size.memory_laws(sizes, memory)[1].holds


def test_micro_batches_are_the_batch_and_their_averaged_means_are_not(tmp_path: Path) -> None:
    errors = batch_gradients.micro_batch_error(context_for(tmp_path))
    assert errors["equal"] < 1e-6
    assert errors["unequal"] < 1e-6
    assert errors["averaged"] > 0.01
    assert [law.holds for law in batch_size.identity_laws({**errors, "unequal": 1e-3})] == [True, False, True]


def test_rows_count_unequal_numbers_of_targets() -> None:
    tokens = text(B=4, T=12)
    counted = (batch_gradients.with_unequal_rows(Batch(tokens, tokens)).targets >= 0).sum(dim=1)
    assert counted.tolist() == [3, 6, 9, 12]


def trained(loss: float) -> Trained:
    """A result of which only the loss matters."""
    return Trained(loss, 0.0, 0.0, [], [(1, loss)], [], 1, 1.0, 1, 1.0)


def test_planted_losses_give_the_planted_verdicts(tmp_path: Path) -> None:
    arms = batch_size.Arms.of(context_for(tmp_path, "coffee"))
    noise = np.random.default_rng(0).normal(0.0, 0.002, (len(arms.all), 8))
    results = {
        arm: TunedArm(0.01, [trained(3.0 - 0.01 * arm.size * (arm.steps == STEPS) + each) for each in row])
        for arm, row in zip(arms.all, noise, strict=True)
    }
    steps, tokens = batch_size.claims_of(arms, results)
    assert steps.verdict.kind == "supported"
    assert tokens.verdict.kind == "no difference"


def test_arms_at_equal_tokens_take_equal_tokens(tmp_path: Path) -> None:
    arms = batch_size.Arms.of(context_for(tmp_path, "coffee"))
    assert len(arms.sizes) == 3
    assert len({arm.size * arm.steps for arm in arms.equal_tokens}) <= 2  # a last step of the largest may be short
    assert {arm.steps for arm in arms.equal_steps} == {STEPS}
    assert len(arms.all) == 5


def test_arms_of_equal_seconds_take_as_many_steps_as_their_pace_allows(tmp_path: Path) -> None:
    arms = batch_size.Arms.of(context_for(tmp_path, "coffee"))
    small, base, large = arms.sizes
    paces = {str(small): [0.9, 0.5, 0.5], str(base): [1.0, 1.0, 9.0], str(large): [3.0, 3.0, 3.0]}
    found = {arm.size: arm.steps for arm in batch_size.equal_seconds(arms, paces)}
    assert found == {small: 2 * STEPS, base: STEPS, large: STEPS // 3}
    assert batch_size.Arm(base, STEPS) in arms.equal_steps


def test_the_whole_experiment_runs_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(batch_gradients.POOL, "glance", 128)
    context = context_for(tmp_path, rates=2)
    planned = batch_size.EXPERIMENT.plan(context)
    findings = batch_size.EXPERIMENT.run(context)
    made = context.store.made
    tuned = [trial for trial in planned if trial.seed >= 1000]
    assert tuned
    assert all(context.store.has_trained(context.note, trial) for trial in tuned)
    assert all(
        context.store.has_trained(context.note, trial) for trial in batch_size.EXPERIMENT.plan(context)
    )  # at the rates chosen
    exact = [law for law in findings.laws if "Bytes" in law.text or "Micro" in law.text]
    assert len(exact) == 3
    assert all(law.holds for law in exact)

    again = context_for(tmp_path, rates=2)
    assert card_of(again, batch_size.EXPERIMENT.run(again)) == card_of(context, findings)
    assert (made > 0, again.store.made) == (True, 0)
