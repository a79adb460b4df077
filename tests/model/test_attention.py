"""Attention as the formula says it: rows that sum to 1, scores of variance 1, and two implementations that agree."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from decoders import IMPLEMENTATIONS, KINDS, L, decoder, like, packed, putting, text, watch
from lightwell.model.attention import (
    AttentionMask,
    additive_mask,
    explicit_attention,
    fused_attention,
    repeat_heads,
)
from lightwell.model.blockwise import BLOCK, blockwise_attention, fused_backward_attention
from lightwell.model.decoder import causal_mask


def weights_of(seen: dict[str, Tensor]) -> list[Tensor]:
    return [value for name, value in seen.items() if name.endswith("attention.weights")]


@torch.no_grad()
@pytest.mark.parametrize("documents", [None, packed()], ids=["one document", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_law_02_rows_sum_to_one_and_are_zero_above_the_diagonal(kind: str, documents: Tensor | None) -> None:
    found = weights_of(watch(decoder(**KINDS[kind]), text(), documents=documents))
    assert len(found) == 2
    for weights in found:  # (B, H, T, T)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]), atol=1e-6, rtol=0)
        assert torch.equal(weights.triu(1), torch.zeros_like(weights))
        assert (weights >= 0).all()
        assert torch.equal(weights[:, :, 0, 0], torch.ones(weights.shape[:2]))  # the first token sees itself alone
        entropy = -torch.special.xlogy(weights, weights).sum(-1)
        assert (entropy <= torch.arange(1, L + 1).log() + 1e-5).all()


@torch.no_grad()
def test_law_02_outside_the_window_and_the_document_the_weights_are_zero() -> None:
    documents = packed()
    model = decoder(attention_window=3)
    visible = torch.zeros(2, L, L, dtype=torch.bool)
    for b in range(2):
        for i in range(L):
            for j in range(i + 1):
                visible[b, i, j] = i - j < 3 and bool(documents[b, i] == documents[b, j])
    for weights in weights_of(watch(model, text(), documents=documents)):
        assert torch.equal(weights > 0, visible[:, None].expand_as(weights))


@pytest.mark.parametrize("documents", [None, packed()], ids=["one document", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_law_04_explicit_and_fused_agree_in_logits_and_gradients(kind: str, documents: Tensor | None) -> None:
    found = {}
    for implementation in IMPLEMENTATIONS:
        model = decoder(**KINDS[kind], attention=implementation)
        logits = model(text(), documents=documents)
        logits.square().mean().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert all(gradient is not None for gradient in gradients.values())
        found[implementation] = {"logits": logits.detach(), **gradients}
    assert found["explicit"]["logits"].std() > 0.5
    torch.testing.assert_close(found["explicit"], found["fused"], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("T", [1, 2, 33, 600])  # torch works in blocks of 32 to 512 on a CPU
def test_law_04_at_lengths_that_fill_no_block(T: int) -> None:
    explicit = decoder(context_length=600, n_layers=1, attention="explicit")
    tokens = text(1, T)
    torch.testing.assert_close(explicit(tokens), like(explicit, attention="fused")(tokens), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_law_04_also_under_the_same_dropout() -> None:
    explicit = decoder(attention="explicit", attention_dropout=0.3).train()
    fused = like(explicit, attention="fused").train()
    found = []
    for model in (explicit, fused):
        torch.manual_seed(5)
        found.append(model(text()))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], explicit.eval()(text()), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_watching_changes_no_bit(implementation: str, mode: str) -> None:
    dropout = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.2)
    model = decoder(attention=implementation, **dropout).train(mode == "training")
    found = []
    for tap in ({}, {"tap": lambda name, value: value}):
        torch.manual_seed(2)
        found.append((model(text(), **tap), torch.get_rng_state()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@torch.no_grad()
def test_law_04_under_the_same_dropout_in_bf16_where_attention_goes_blockwise_attention() -> None:
    explicit = decoder(context_length=BLOCK + 40, n_layers=1, attention="explicit", attention_dropout=0.3).train()
    fused = like(explicit, attention="fused").train()
    found = []
    for model in (explicit, fused):
        torch.manual_seed(5)
        found.append(model(text(2, BLOCK + 40), dtype=torch.bfloat16).float())
    torch.testing.assert_close(*found, atol=0.02, rtol=0.02)
    assert not torch.allclose(found[0], explicit.eval()(text(2, BLOCK + 40)), atol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_what_is_watched_beside_fused_attention_is_what_it_computes(mode: str) -> None:
    model = decoder(attention_dropout=0.3, n_layers=1).train(mode == "training")
    seen = watch(model, text())
    values = seen["layers.0.attention.values"].transpose(1, 2).flatten(2)
    output = model.get_submodule("layers.0.attention.output")(values)
    torch.testing.assert_close(output, seen["layers.0.attention.output"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_tap_that_returns_something_else_intervenes(implementation: str) -> None:
    model = decoder(attention=implementation)
    seen = watch(model, text())
    nothing = torch.zeros_like(seen["layers.1.feed_forward.activations"])
    cut = model(text(), tap=putting("layers.1.feed_forward.activations", nothing))
    expected = model.head(model.norm(seen["layers.1.residual_middle"]))
    torch.testing.assert_close(cut, expected, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(cut, seen["logits"], atol=1e-2)


@torch.no_grad()
def test_an_intervention_in_the_weights_reaches_the_explicit_values() -> None:
    model = decoder(n_layers=1, attention="explicit")
    even = torch.ones(2, 4, L, L).tril()
    even = even / even.sum(-1, keepdim=True)
    values: list[Tensor] = []

    def tap(name: str, value: Tensor) -> Tensor:
        if name.endswith("values"):
            values.append(value)
        return even if name.endswith("weights") else value

    model(text(), tap=tap)
    v = watch(model, text())["layers.0.attention.v"]
    means = v.cumsum(2) / torch.arange(1, L + 1)[:, None]
    torch.testing.assert_close(values[0], means, atol=1e-5, rtol=1e-5)


# Note 3: scaled dot products ------------------------------------------------------------------------------------------


def captured(q: Tensor, k: Tensor, **others: Any) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    mask = causal_mask(q.size(2))
    explicit_attention(q, k, k, mask, tap=lambda name, value: seen.setdefault(name, value))
    return seen


@pytest.mark.parametrize("K", [4, 8, 64, 256])
def test_scores_have_the_variance_of_the_head_dim_and_scaled_ones_have_one(K: int) -> None:
    generator = torch.Generator().manual_seed(K)
    q, k = (torch.randn(4, 8, 64, K, generator=generator) for _ in range(2))
    seen = captured(q, k)
    assert 0.95 <= seen["scores"].std().item() / math.sqrt(K) <= 1.05
    assert 0.95 <= seen["scaled"].std().item() <= 1.05
    torch.testing.assert_close(seen["scaled"] * math.sqrt(K), seen["scores"])


@torch.no_grad()
def test_adding_a_constant_to_a_row_of_scores_changes_nothing() -> None:
    model = decoder(n_layers=1, attention="explicit")
    seen = watch(model, text())
    shift = torch.randn(2, 4, L, 1, generator=torch.Generator().manual_seed(1)) * 3
    shifted = model(text(), tap=putting("layers.0.attention.scores", seen["layers.0.attention.scores"] + shift))
    assert (shifted - seen["logits"]).abs().max() < 2e-5
    weights = (seen["layers.0.attention.masked"] + shift).softmax(-1)
    assert (weights - seen["layers.0.attention.weights"]).abs().max() < 1e-6


@torch.no_grad()
def test_scores_are_a_learned_form_and_not_a_symmetric_similarity() -> None:
    scores = watch(decoder(), text())["layers.0.attention.scores"]
    assert (scores - scores.transpose(-2, -1)).abs().mean() > 0.1


def test_the_formula_by_hand() -> None:
    """Two tokens, one head of width 4: every step computed on paper."""
    q = torch.tensor([[[[2.0, 0, 0, 0], [0, 2.0, 0, 0]]]])
    k = torch.tensor([[[[1.0, 2.0, 0, 0], [0, 4.0, 0, 0]]]])
    v = torch.tensor([[[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]]])
    seen: dict[str, Tensor] = {}
    explicit_attention(q, k, v, causal_mask(2), tap=lambda name, value: seen.setdefault(name, value))
    assert seen["scores"].tolist() == [[[[2.0, 0.0], [4.0, 8.0]]]]
    assert seen["scaled"].tolist() == [[[[1.0, 0.0], [2.0, 4.0]]]]
    assert seen["masked"].tolist() == [[[[1.0, -math.inf], [2.0, 4.0]]]]
    second = 1 / (1 + math.exp(-2))
    expected = torch.tensor([[1.0, 0.0], [1 - second, second]])
    torch.testing.assert_close(seen["weights"][0, 0], expected)
    torch.testing.assert_close(seen["dropped"], seen["weights"])
    torch.testing.assert_close(seen["values"][0, 0, :, :2], expected)


def test_each_head_of_keys_serves_neighbouring_heads_of_queries() -> None:
    x = torch.arange(3.0).view(1, 3, 1, 1)
    assert repeat_heads(x, 2).flatten().tolist() == [0, 0, 1, 1, 2, 2]
    assert repeat_heads(x, 1) is x


@pytest.mark.parametrize("implementation", ["explicit", "fused"])
def test_law_02_rows_sum_to_1_also_in_bf16(implementation: str) -> None:
    """A softmax in bf16 would miss by 0.002: it is computed in fp32 at least, and in fp64 stays there."""
    model = decoder(attention=implementation)
    seen: dict[str, torch.Tensor] = {}

    def watch_weights(name: str, value: torch.Tensor) -> torch.Tensor:
        if name.endswith("weights"):
            seen[name] = value
        return value

    with torch.no_grad():
        model(text(), dtype=torch.bfloat16, tap=watch_weights)
    for weights in seen.values():
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), atol=1e-6, rtol=0)
    seen.clear()
    with torch.no_grad():
        model.double()(text(), tap=watch_weights)
    assert {weights.dtype for weights in seen.values()} == {torch.float64}


@torch.no_grad()
@pytest.mark.parametrize("T", [5, BLOCK + 40])
def test_law_04_in_bf16_all_ways_are_the_fp32_values_within_rounding(T: int) -> None:
    generator = torch.Generator().manual_seed(T)
    q, k, v = torch.randn(3, 2, 3, T, 16, generator=generator)
    mask = causal_mask(T)
    exact = explicit_attention(q, k, v, mask)
    attention_mask = AttentionMask(mask, is_causal=True)
    rounded_q, rounded_k, rounded_v = q.bfloat16(), k.bfloat16(), v.bfloat16()
    for found in (
        explicit_attention(rounded_q, rounded_k, rounded_v, mask),
        blockwise_attention(explicit_attention, rounded_q, rounded_k, rounded_v, mask),
        blockwise_attention(
            fused_backward_attention, rounded_q, rounded_k, rounded_v, additive_mask(mask, torch.float32)
        ),
        fused_attention(rounded_q, rounded_k, rounded_v, attention_mask, 0.0),
    ):
        assert found.dtype == torch.bfloat16
        assert (found.float() - exact).norm() < 0.01 * exact.norm()  # bf16 has 8 bits: 0.4 % for each number


def test_in_bf16_the_stream_is_bf16_and_weights_and_gradients_stay_fp32() -> None:
    model = decoder()
    seen: dict[str, torch.dtype] = {}

    def look(name: str, value: Tensor) -> Tensor:
        seen[name] = value.dtype
        return value

    logits = model(text(), dtype=torch.bfloat16, tap=look)
    logits.float().square().mean().backward()
    assert {name for name, dtype in seen.items() if dtype == torch.float32} <= {
        name for name in seen if name.endswith(("token_embeddings", "weights"))
    }
    assert seen["layers.1.residual"] == logits.dtype == torch.bfloat16
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
    exact = model(text())
    assert (logits.float() - exact).norm() < 0.05 * exact.norm()
