"""Attention against a reference that anyone can read: loops over rows, heads, queries and keys."""

from __future__ import annotations

import math
from operator import mul
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decoders import IMPLEMENTATIONS, V, decoder, text
from lightwell.model.attention import AttentionMask, attend, repeat_heads
from lightwell.model.decoder import causal_mask
from lightwell.model.tap import passthrough


def looped(q: Tensor, k: Tensor, v: Tensor, window: int, documents: list[list[int]] | None) -> Tensor:
    """q (B, H, T, K), k and v (B, G, T, K) -> (B, H, T, K), in Python's own numbers."""
    B, H, T, K = q.shape
    group = H // k.size(1)
    values = torch.zeros(B, H, T, K)
    for b in range(B):
        for h in range(H):
            for i in range(T):
                seen = [
                    j
                    for j in range(i + 1)
                    if (not window or i - j < window) and (documents is None or documents[b][i] == documents[b][j])
                ]
                key, value, query = k[b, h // group].tolist(), v[b, h // group].tolist(), q[b, h, i].tolist()
                powers = [math.exp(sum(map(mul, query, key[j])) / math.sqrt(K)) for j in seen]
                for d in range(K):
                    mean = sum(power * value[j][d] for power, j in zip(powers, seen, strict=True)) / sum(powers)
                    values[b, h, i, d] = mean
    return values


@given(data=st.data())
def test_law_04_both_implementations_are_the_loops_at_any_shape(data: st.DataObject) -> None:
    B, G, group, T, K = (
        data.draw(st.integers(1, most), name) for name, most in zip("BGgTK", (2, 3, 3, 9, 7), strict=True)
    )
    window = data.draw(st.integers(0, T + 1), "window")
    row = st.lists(st.integers(-1, 2), min_size=T, max_size=T)
    documents = data.draw(st.none() | st.lists(row, min_size=B, max_size=B), "documents")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    q = torch.randn(B, G * group, T, K, generator=generator)
    k, v = torch.randn(2, B, G, T, K, generator=generator)
    mask = causal_mask(T, window)
    if documents is not None:
        ids = torch.tensor(documents)
        mask = mask & (ids[:, None, :, None] == ids[:, None, None, :])
    attention_mask = AttentionMask(mask, is_causal=documents is None and not window)
    expected = looped(q, k, v, window, documents)
    k, v = repeat_heads(k, group), repeat_heads(v, group)
    for implementation in IMPLEMENTATIONS:
        found = attend(implementation, q, k, v, attention_mask, 0.0, passthrough)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@given(data=st.data())
@torch.no_grad()
def test_law_04_explicit_and_fused_models_agree_at_odd_shapes(data: st.DataObject) -> None:
    n_kv_heads = data.draw(st.integers(1, 3), "n_kv_heads")
    settings: dict[str, Any] = {
        "n_layers": 1,
        "n_kv_heads": n_kv_heads,
        "n_heads": n_kv_heads * data.draw(st.integers(1, 3), "group"),
        "head_dim": 2 * data.draw(st.integers(1, 9), "half of head_dim"),
        "d_model": data.draw(st.integers(3, 41), "d_model"),
        "attention_window": data.draw(st.sampled_from([0, 1, 5, 12]), "window"),
        "qk_norm": data.draw(st.booleans(), "qk_norm"),
        "positions": data.draw(st.sampled_from(["learned", "rope", "none"]), "positions"),
    }
    tokens = text(2, data.draw(st.integers(1, 12), "T"))
    documents = data.draw(st.sampled_from([None, (tokens > V // 2).int().cumsum(1)]), "documents")
    explicit, fused = (decoder(**settings, attention=implementation) for implementation in IMPLEMENTATIONS)
    found = (explicit(tokens, documents=documents), fused(tokens, documents=documents))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_precision_hides_the_future_too(implementation: str) -> None:
    """-inf is a number of every floating type; a fill value of -1e9 would overflow in fp16."""
    model, tokens = decoder(attention=implementation), text()
    expected = model(tokens)
    model.half()
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % V
    logits = model(tokens)
    assert logits.dtype == torch.float16
    assert torch.equal(logits[:, :-1], model(changed)[:, :-1])
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_mask_that_hides_nothing_is_noticed_in_both_implementations(implementation: str) -> None:
    """The planted leak: the test of law 3 fails where the mask is opened. One document makes `fused` read the mask."""
    model, tokens = decoder(attention=implementation), text()
    documents = torch.zeros_like(tokens)
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % V

    def leaks() -> bool:
        before, after = (model(each, documents=documents)[:, :-1] for each in (tokens, changed))
        return not torch.equal(before, after)

    assert not leaks()
    model.causal_mask.fill_(True)
    assert leaks()
