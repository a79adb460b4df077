"""Dropout: off in evaluation, kept values scaled by 1 / (1 - p) in training, each in its own place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from decoders import IMPLEMENTATIONS, L, decoder, like, text, watch
from lightwell.model.attention import AttentionMask, explicit_attention, fused_attention
from lightwell.model.decoder import causal_mask
from lightwell.model.dropout import LEVELS, DropoutMask, sample_dropout_mask

PLACES = ("embedding_dropout", "attention_dropout", "residual_dropout")


def watch_training(p: dict[str, float]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Intermediates of the same weights without dropout, and with it in training."""
    model = decoder(n_layers=1, attention="explicit")
    torch.manual_seed(3)
    return watch(model, text(64)), watch(like(model, **p).train(), text(64))


def assert_dropped(before: Tensor, after: Tensor, p: float) -> None:
    """About a share p of the values is 0 and the others are exactly scaled by 1 / (1 - p)."""
    counted = before != 0
    kept = after != 0
    assert not (kept & ~counted).any()
    share = 1 - kept[counted].float().mean().item()
    assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / counted.sum().item()))
    torch.testing.assert_close(after[kept], before[kept] / (1 - p), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_05_off_in_evaluation_bit_for_bit(place: str, implementation: str) -> None:
    model = decoder(attention=implementation)
    dropping = like(model, **{place: 0.9})
    state = torch.get_rng_state()
    assert torch.equal(model(text()), dropping(text()))
    assert torch.equal(torch.get_rng_state(), state)  # and it does not even draw
    assert not torch.allclose(model(text()), dropping.train()(text()), atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_law_05_embedding_dropout_acts_on_the_embeddings(p: float) -> None:
    without, found = watch_training({"embedding_dropout": p})
    assert_dropped(without["embeddings"], found["embeddings"], p)
    assert torch.equal(found["token_embeddings"], without["token_embeddings"])


@torch.no_grad()
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_law_05_attention_dropout_acts_on_the_attention_weights(p: float) -> None:
    without, found = watch_training({"attention_dropout": p})
    assert torch.equal(found["layers.0.attention.weights"], without["layers.0.attention.weights"])
    assert_dropped(found["layers.0.attention.weights"], found["layers.0.attention.dropped"], p)
    assert torch.equal(found["embeddings"], without["embeddings"])
    residual = found["layers.0.residual_middle"] - found["embeddings"]
    torch.testing.assert_close(residual, found["layers.0.attention.output"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_law_05_residual_dropout_acts_on_both_branches_before_they_join(p: float) -> None:
    without, found = watch_training({"residual_dropout": p})
    assert torch.equal(found["embeddings"], without["embeddings"])
    assert torch.equal(found["layers.0.attention.output"], without["layers.0.attention.output"])
    attention = found["layers.0.residual_middle"] - found["embeddings"]
    feed_forward = found["layers.0.residual"] - found["layers.0.residual_middle"]
    assert_dropped(found["layers.0.attention.output"], attention, p)
    assert_dropped(found["layers.0.feed_forward.output"], feed_forward, p)


@torch.no_grad()
@pytest.mark.parametrize("place", PLACES)
def test_without_dropout_training_is_evaluation(place: str) -> None:
    model = decoder(**{place: 0.0})
    state = torch.get_rng_state()
    assert torch.equal(model(text()), model.train()(text()))
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("p", [0.1, 0.4])
def test_law_05_the_sum_of_a_dropped_row_is_one_on_average_with_the_predicted_spread(
    implementation: str, p: float
) -> None:
    """For a row a: E[sum] = 1 and SD[sum] = sqrt(p / (1 - p) * sum a^2). Values of 1 make each output its row's sum."""
    n = 10_000
    torch.manual_seed(1)
    scores = torch.randn(8, 8)
    q, k = scores.expand(n, 1, 8, 8) * math.sqrt(8), torch.eye(8).expand(n, 1, 8, 8)
    v, mask = torch.ones(n, 1, 8, 8), causal_mask(8)
    if implementation == "explicit":
        kept = sample_dropout_mask((n, 1, 8, 8), p, q.device)
        sums = explicit_attention(q, k, v, mask, kept)[:, 0, :, 0]
    else:
        sums = fused_attention(q, k, v, AttentionMask(mask, is_causal=True), p)[:, 0, :, 0]
    a = scores.masked_fill(~mask, -math.inf).softmax(-1)
    expected = (p / (1 - p) * a.square().sum(-1)).sqrt()  # (T,)
    assert torch.equal(a[0], torch.eye(8)[0])
    assert expected[0].item() == pytest.approx(math.sqrt(p / (1 - p)))  # 0.3333 for p = 0.1
    torch.testing.assert_close(sums.mean(0), torch.ones(8), atol=4 * expected.max().item() / math.sqrt(n), rtol=0)
    torch.testing.assert_close(sums.std(0), expected, atol=0, rtol=0.06)
    nothing = (sums[:, 0] == 0).float().mean().item()  # a row of one weight is dropped whole
    assert nothing == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


@torch.no_grad()
def test_the_mean_over_many_masks_is_the_value_without_dropout() -> None:
    found = decoder(n_layers=1, embedding_dropout=0.3).train()
    torch.manual_seed(1)
    many = watch(found, text(1).expand(4000, L))["embeddings"].mean(0)
    without = watch(found.eval(), text(1))["embeddings"][0]
    torch.testing.assert_close(many, without, atol=0.05, rtol=0)


@torch.no_grad()
def test_the_masks_follow_from_torchs_generator_alone() -> None:
    model, found = decoder(**dict.fromkeys(PLACES, 0.2)).train(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model(text()))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=0.1)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.999])
def test_values_are_kept_with_the_probability_asked_for_and_independently(p: float) -> None:
    torch.manual_seed(3)
    n = 400_000
    kept = sample_dropout_mask((2, n // 2), p, torch.device("cpu"))
    spread = math.sqrt(p * (1 - p) / n)
    assert kept.mask.float().mean().item() == pytest.approx(1 - p, abs=4 * spread)
    assert kept.probability == pytest.approx(1 - p, abs=0.5 / LEVELS)
    centred = kept.mask.flatten().float() - (1 - p)
    for apart in (1, 2, 3, 4, 8, 64, n // 2):  # four of them share 64 random bits
        product = (centred * centred.roll(apart)).mean().item()
        assert abs(product) < 5 * p * (1 - p) / math.sqrt(n) + 1e-6


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_an_extreme_probability_is_neither_nothing_nor_everything(p: float) -> None:
    kept = sample_dropout_mask((3,), p, torch.device("cpu"))
    assert 0 < kept.probability < 1


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5, 1), (2, 2)])
def test_a_mask_has_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    kept = sample_dropout_mask(shape, 0.5, torch.device("cpu"))
    assert (kept.mask.shape, kept.mask.dtype) == (shape, torch.bool)


def test_what_is_kept_is_divided_by_its_probability() -> None:
    kept = DropoutMask(torch.tensor([True, False]), 0.8)
    assert torch.allclose(kept(torch.tensor([2.0, 3.0])), torch.tensor([2.5, 0.0]))
    assert kept(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
