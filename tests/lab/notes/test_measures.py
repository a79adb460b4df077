"""The measures of the notes on small inputs whose answers are worked out by hand or written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from decoders import decoder, text
from lab_house import context_of
from lightwell.batches.batch import Batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.errors import SettingError
from lightwell.lab.experiments.rate_search import TunedArm
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.activation import experiment as activation
from lightwell.lab.notes.activation import zeros
from lightwell.lab.notes.batch_size import experiment as batch_size
from lightwell.lab.notes.batch_size import gradient_noise as noise
from lightwell.lab.notes.batch_size import gradients
from lightwell.lab.notes.causal import experiment as causal
from lightwell.lab.notes.causal.checks import CausalReport, Check, check_causal
from lightwell.lab.notes.causal.models import Subject
from lightwell.lab.notes.dropout import row_sums
from lightwell.lab.notes.self_attention import influence, saturation
from lightwell.lab.notes.stride import exposure, leaks
from lightwell.tokens.token_file import TokenFile


def test_zeros_are_counted_to_the_last_one() -> None:
    values = torch.tensor([[0.0, 1e-3, -2.0], [0.0, -9e-4, 0.0]])
    assert zeros.count_zeros(values) == {
        "tokens": 2, "units": 3, "zero": 0.5, "near": pytest.approx(4 / 6), "negative": pytest.approx(2 / 6),
        "lowest": -2.0, "size": pytest.approx(math.sqrt((1e-6 + 4 + 81e-8) / 6), rel=1e-6), "dead": 1,
    }  # fmt: skip


def test_the_histogram_s_bins() -> None:
    assert (zeros.EDGES[0], zeros.EDGES[20], zeros.EDGES[-1], len(zeros.EDGES)) == (-3.0, 0.0, 3.0, 41)
    shares = zeros.histogram(torch.tensor([-99.0, -2.9, 0.07, 99.0]))
    assert {place: share for place, share in enumerate(shares) if share} == {0: 0.5, 20: 0.25, 39: 0.25}


def layer(zero: float, **others: float) -> dict[str, Any]:
    row = {"zero": zero, "near": 0.1, "negative": 0.2, "dead": 1, "size": 1.0, "lowest": -zero, "units": 4, "tokens": 9}
    return {**row, "inflow": [zero, 1.0], **others}


def probed(*shares: list[float], loss: float = 1.0) -> Trained:
    """A result whose layers had these shares of zeros, probe by probe, at steps 0, 5, ..."""
    looks = [(5 * at, [layer(zero) for zero in row]) for at, row in enumerate(shares)]
    return Trained(loss, 0.0, 0.0, [], [], looks, 1, 1.0, 1, 0.0)


def test_zeros_along_a_training_are_means_over_seeds() -> None:
    runs = [probed([0.5, 0.25], [0.75, 0.5]), probed([0.25, 0.25], [0.25, 1.0])]
    first, last = activation.zeros_along(runs)
    assert (first["step"], last["step"]) == (0, 5)
    assert [row["zero"] for row in last["layers"]] == [0.5, 0.75]
    assert [row["seeds"] for row in last["layers"]] == [[0.75, 0.25], [0.5, 1.0]]
    assert [row["lowest"] for row in last["layers"]] == [-0.75, -1.0]
    assert [row["deads"] for row in last["layers"]] == [[1, 1], [1, 1]]
    assert [row["inflow"] for row in first["layers"]] == [[], []]
    assert [row["inflow"] for row in last["layers"]] == [[0.5, 1.0], [0.75, 1.0]]
    assert activation.share([first, last], -1) == 0.625
    assert activation.share([first, last], 0) == 0.3125
    assert [activation.share_at(runs[0], at, "zero") for at in (0, -1)] == [0.375, 0.625]


def test_the_last_claim_is_zeros_after_less_before() -> None:
    arms = {"relu": TunedArm(0.1, [probed([0.5], [0.75]), probed([0.25], [0.5])])}
    assert activation.claims_of(arms)[-1].points == (0.25, 0.25)


def test_the_width_of_each_arm(tmp_path: Path) -> None:
    for base, d_ff, relu, gated in (("relu", 240, 240, 160), ("swiglu", 160, 240, 160), ("relu", 0, 0, 0)):
        context = context_of("activation", tmp_path / base, activation=base, d_ff=d_ff)
        assert activation.settings_of(context, "relu") == {"activation": "relu", "d_ff": relu}
        assert activation.settings_of(context, "swiglu") == {"activation": "swiglu", "d_ff": gated}


def test_paces_are_seconds_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def planted(trials: Any, corpus: Any, rounds: int, steps: int) -> dict[str, list[float]]:
        asked.append((rounds, steps))
        return {name: [6.4, 12.8] for name in trials}

    monkeypatch.setattr(activation, "seconds_per_step", planted)
    for draws in (8, 64):
        found = activation.paces(context_of("activation", tmp_path, draws=draws))
    assert found == {name: pytest.approx([0.1, 0.2]) for name in activation.FEW}  # of 4 sequences of 16
    assert asked == [(4, 4), (8, 4)]


def test_batches_that_are_drawn_share_nothing() -> None:
    """A pool of which sequence i has the gradient e_i: |G_B|^2 is 1 / B, and two batches have nothing in common."""
    draws = noise.draw_batches(np.eye(16), (1, 2, 8), draws=5, seed=1)
    assert draws.squared == pytest.approx(np.tile([1.0, 0.5, 0.125], (5, 1)))
    assert draws.parts == pytest.approx(np.tile([1.0, 0.5, 0.125], (5, 1)))
    assert draws.cosines == pytest.approx(np.zeros((5, 3)))
    weighted = np.diag(np.arange(1.0, 5.0)) + 1.0
    draws = noise.draw_batches(weighted, (1, 2), draws=40, seed=1)
    assert set(np.round(draws.squared[:, 0], 9)) == {2.0, 3.0, 4.0, 5.0}
    pairs = {(a, b): 1 + (a + b) / 4 for a in range(1, 5) for b in range(a + 1, 5)}
    assert set(np.round(draws.squared[:, 1], 9)) <= set(np.round(list(pairs.values()), 9))
    ones = {round(1 / math.sqrt((1 + a) * (1 + b)), 9) for a, b in pairs}
    assert set(np.round(draws.cosines[:, 0], 9)) <= ones


def test_noise_scales_by_hand() -> None:
    sizes, squared = (1, 2, 4), np.array([[5.0, 3.0, 2.0], [5.0, 3.0, 2.0]])  # 1 + 4 / B
    line = noise.noise_of_line(squared, sizes)
    assert [line.signal, line.noise, line.share, line.r_squared] == pytest.approx([1.0, 4.0, 0.25, 1.0])
    assert [line.share_low, line.share_high] == pytest.approx([0.25, 0.25])
    assert [line.simple, line.low, line.high] == pytest.approx([4.0, 4.0, 4.0])
    two = noise.noise_of_two_sizes(squared[:, [0, 2]], 1, 4)
    assert [two.signal, two.noise, two.share] == pytest.approx([1.0, 4.0, 0.25])
    assert noise.NoiseScale(0.0, 1.0, 0.0, -0.5, 0.5).to_dict() == {
        "signal": 0.0, "noise": 1.0, "share": 0.0, "share_low": -0.5, "share_high": 0.5, "r_squared": 1.0,
        "simple": None, "low": 2.0, "high": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("share", "B", "cosine"), [(0.25, 4, 0.5), (0.0, 4, 0.0), (-0.05, 4, -0.25), (-0.124, 4, -0.984), (-0.2, 4, -1.0)]
)
def test_the_cosine_that_is_foretold(share: float, B: int, cosine: float) -> None:
    assert gradients.foretold(share, B) == pytest.approx(cosine, abs=1e-3)


def test_what_lies_beyond_chance() -> None:
    cosines = np.array([[0.1, 0.5], [0.3, 0.5]])  # means 0.2 and 0.5, errors 0.1 and 0
    assert gradients.beyond_chance(cosines, np.array([0.9, 0.5])) == pytest.approx(0.3)
    assert gradients.beyond_chance(cosines, np.array([0.2, 0.4])) == pytest.approx(0.1)
    assert gradients.beyond_chance(cosines, np.array([0.3, 0.5])) == 0.0
    same = {"share": 1.0, "share_low": 1.0, "share_high": 1.0}
    assert gradients.errors_apart(same, same) == 0.0
    assert gradients.errors_apart(same, {**same, "share": 2.0}) == math.inf
    assert gradients.share_of_pool({"signal": 1.0, "noise": 4.0}) == 0.25
    assert gradients.share_of_pool({"signal": 1.0, "noise": 0.0}) == math.inf
    assert gradients.relative(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == 0.75


@pytest.mark.parametrize(
    ("simple", "low", "high", "words"),
    [(None, None, None, "beyond measure"), (12.34, None, None, "12.3"), (12.34, 9.0, None, "12.3, at least 9"),
     (12.34, 9.0, 20.0, "12.3, 9 to 20"), (None, 9.0, None, "beyond measure, at least 9")],
)  # fmt: skip
def test_a_noise_scale_in_words(simple: Any, low: Any, high: Any, words: str) -> None:
    assert gradients.scale_words({"simple": simple, "low": low, "high": high}) == words


def test_states_pool_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glance, coffee = (context_of("batch-size", tmp_path, name, steps=40) for name in ("glance", "coffee"))
    assert gradients.states(glance) == {"at initialisation": 0, "after 40 steps": 40}
    assert gradients.states(coffee) == {"at initialisation": 0, "after 5 steps": 5, "after 40 steps": 40}
    assert (gradients.pool_size(glance), gradients.pool_size(coffee), gradients.POOL["night"]) == (512, 768, 1024)
    count = glance.config.model.parameter_count()
    monkeypatch.setattr(gradients, "POOL_BYTES", 4 * count * 200)
    assert gradients.pool_size(glance) == 200
    monkeypatch.setattr(gradients, "POOL_BYTES", 4 * count * 100)
    assert gradients.pool_size(glance) == 128
    for free, refused in ((4 * count * 128 / 0.7 * 1.001, False), (4 * count * 128 / 0.7 * 0.999, True)):
        monkeypatch.setattr(gradients, "available_memory", lambda device, free=free: free)
        if refused:
            with pytest.raises(SettingError, match="The gradients of 128 sequences"):
                gradients.refuse_too_large(glance)
        else:
            gradients.refuse_too_large(glance)
    arm = batch_size.Arm(16, 8)
    settings = batch_size.settings_of(glance, arm)
    assert settings == {"batch_size": 16, "micro_batch_size": 0, "steps": 8, "warmup_steps": 2}
    assert batch_size.settings_of(glance, batch_size.Arm(16, 4))["warmup_steps"] == 1
    assert batch_size.first_rate(glance, arm) == pytest.approx(2 * glance.config.training.learning_rate)


@pytest.mark.parametrize("stride", [8, 4, 9])
def test_an_exposure_row_by_hand(stride: int) -> None:
    tokens = TokenFile.from_ids(np.arange(33), vocab_size=33)
    row = exposure.exposure_row(BatchLoader(tokens, BatchConfig(batch_size=3, stride=stride), 8, seed=1), 8, stride)
    counts = np.zeros(33, dtype=int)
    starts = range(0, 25, stride)
    for start in starts:
        counts[start + 1 : start + 9] += 1
    times, of_tokens = np.unique(counts[1:], return_counts=True)
    assert (row["times"], row["tokens"]) == (times.tolist(), of_tokens.tolist())
    assert (row["windows"], row["windows_expected"]) == (len(starts), math.ceil(25 / stride))
    assert row["mean"] == pytest.approx(counts[1:].mean())
    assert row["start"] == counts[:24].tolist()
    assert row["between"] == int((counts[1 : starts[-1] + 1] == 0).sum())


def test_stretches_and_splits_by_hand() -> None:
    tokens = TokenFile.from_ids(np.arange(41), vocab_size=41)
    before, after = leaks.split_after_windowing(tokens, 4, 2)
    starts = [*range(0, 37, 2)]
    assert after.inputs[:, 0].tolist() == [start for at, start in enumerate(starts) if at % 10 == 5]
    assert len(before.inputs) + len(after.inputs) == len(starts)
    training = TokenFile.from_ids(np.array([1, 2, 3, 4, 5, 6]), vocab_size=9)
    held_out = TokenFile.from_ids(np.array([3, 4, 5, 1, 2, 4, 6]), vocab_size=9)
    assert leaks.word_for_word(training, held_out, 3) == (
        1,
        2,
    )  # 3 4 5 is there, 1 2 4 is not, a rest of one counts not
    assert leaks.word_for_word(training, TokenFile.from_ids(np.arange(3, 6), vocab_size=9), 3) == (1, 1)


def test_random_vectors_by_the_formula() -> None:
    rows = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [0.0, 50.0]])
    found = saturation.row_numbers(rows)
    p = 0.25
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert found["saturated"] == pytest.approx(1 / 3)
    assert found["entropy"] == pytest.approx((entropy + math.log(2.0)) / 3 / math.log(2.0), abs=1e-6)
    assert found["gradient"] == pytest.approx(2 * p * (1 - p))  # the middle one; the others have 0.5 and 0
    assert [row["size"] for row in saturation.saturation(1, 1)] == [4, 8, 16, 32, 64, 96, 128, 256]


def test_rank_correlations_within_and_across_rows() -> None:
    scores = np.arange(16.0).reshape(4, 4)
    weights = np.tril(scores)
    weights[2, :3] = [3.0, 1.0, 2.0]
    found = influence.ranks(scores, weights, -scores)
    assert found["within"] == pytest.approx(-0.5)
    assert found["cosine"] == pytest.approx((0.5 - 1.0) / 2)
    late = [(scores[i, j], weights[i, j]) for i in (2, 3) for j in range(i + 1)]
    assert found["across"] == pytest.approx(influence.rank_correlation(*map(list, zip(*late, strict=True))))
    q, k = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert influence.cosines(q, k).item() == pytest.approx(0.96)


def test_a_law_of_causal_attention_has_the_worst_of_all_models() -> None:
    def row(measured: float | None, outcome: str) -> dict[str, Any]:
        return {"what": "A number.", "measured": measured, "expected": "0", "outcome": outcome}

    (law,) = causal.laws_of([[row(1.0, "passed")], [row(3.0, "passed")], [row(2.0, "passed")]])
    assert (law.text, law.measured, law.holds) == ("A number", 3.0, True)
    (law,) = causal.laws_of([[row(9.0, "passed")], [row(2.0, "failed")]])
    assert (law.measured, law.holds) == (2.0, False)
    (law,) = causal.laws_of([[row(9.0, "failed")], [row(None, "failed")]])
    assert math.isnan(law.measured)
    assert causal.laws_of([[row(None, "not applicable")]]) == []


def test_a_report_by_value() -> None:
    rows = (Check("a", "", 0.12345, "0", "passed"), Check("b", "", None, "0", "not applicable", "since so"))
    report = CausalReport("Model", rows)
    assert report.passed
    assert report["b"] is rows[1]
    assert "since so" in str(report)
    assert "0.123" in str(report)
    assert str(report).endswith("Model: no leak was found.")
    infinite = CausalReport("Model", (Check("a", "", math.inf, "0", "failed"),))
    assert infinite.to_dict()["rows"][0]["measured"] is None
    assert infinite.to_dict()["passed"] is False


class Flat(nn.Module):
    """Maps every token to its own logits, and sees as many tokens as it is told."""

    def __init__(self, context_length: int, vocab_size: int = 5) -> None:
        super().__init__()
        self.config = type("Config", (), {"n_positions": context_length, "vocab_size": vocab_size})()
        self.table = nn.Embedding(5, 5)
        self.lengths: list[int] = []

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.lengths.append(ids.size(1))
        logits: torch.Tensor = self.table(ids)
        return logits


@pytest.mark.parametrize(("sees", "length", "expected"), [(8, 0, 8), (99, 0, 16), (99, 5, 5)])
def test_as_many_tokens_as_the_model_sees_are_sent_through(sees: int, length: int, expected: int) -> None:
    model = Flat(sees)
    assert check_causal(model, length=length).passed
    assert max(model.lengths) == expected
    assert Subject(model).longest() == sees
    with pytest.raises(SettingError, match="The length is 1, but a leak needs at least 2"):
        check_causal(model, length=1)


def test_losses_and_masks_of_the_dropout_probes() -> None:
    model = decoder()
    tokens = text(B=3)
    targets = tokens.clone()
    targets[0, 5:] = -100
    batches = [Batch(tokens[:1], targets[:1]), Batch(tokens[1:], targets[1:])]
    logs = model(tokens).detach().log_softmax(-1)
    picked = [-float(logs[b, t, targets[b, t]]) for b in range(3) for t in range(12) if targets[b, t] >= 0]
    assert row_sums.mean_loss(model, batches) == pytest.approx(sum(picked) / len(picked), rel=1e-5)
    assert (row_sums.COPIES, row_sums.SHOWN, row_sums.SCORED) == (64, 24, 4096)
