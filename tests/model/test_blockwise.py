"""Attention in blocks, and the form of it that compiles well: the formula's values, and the formula's gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decoders import V, decoder
from lightwell.model.attention import additive_mask, explicit_attention
from lightwell.model.blockwise import (
    BLOCK,
    LONGEST,
    AttentionFunction,
    blockwise_attention,
    fused_backward_attention,
    use_blockwise,
)
from lightwell.model.cache import KVCache
from lightwell.model.decoder import causal_mask
from lightwell.model.dropout import DropoutMask, sample_dropout_mask
from lightwell.model.tap import recording

B, H, K = 2, 3, 16


def tensors(T: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, B, H, T, K, generator=torch.Generator().manual_seed(T))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def packed_mask(T: int, length: int) -> Tensor:
    """(B, 1, T, T): documents of so many tokens in a row, in both sequences; 0: one document."""
    ids = torch.arange(T).expand(B, T) // (length or T)
    return causal_mask(T) & (ids[:, None, :, None] == ids[:, None, None, :])


def mask_for(attention: AttentionFunction, mask: Tensor) -> Tensor:
    """The mask in the form that the function reads."""
    return additive_mask(mask, torch.float32) if attention is fused_backward_attention else mask


@torch.no_grad()
@pytest.mark.parametrize("attention", [explicit_attention, fused_backward_attention], ids=["explicit", "lean"])
@pytest.mark.parametrize("length", [0, 5], ids=["one document", "packed"])
@pytest.mark.parametrize("T", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_law_04_blockwise_attention_the_values_are_the_same(T: int, length: int, attention: AttentionFunction) -> None:
    (q, k, v), mask = tensors(T), packed_mask(T, length)
    for kept in (None, sample_dropout_mask((B, H, T, T), 0.3, q.device)):
        expected = explicit_attention(q, k, v, mask, kept)
        torch.testing.assert_close(
            blockwise_attention(attention, q, k, v, mask_for(attention, mask), kept), expected, atol=1e-6, rtol=1e-5
        )


@given(T=st.integers(1, 9), length=st.integers(0, 4), p=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
def test_the_gradients_by_hand_are_those_of_the_formula(T: int, length: int, p: float, seed: int) -> None:
    """In fp64, where a wrong term cannot hide behind rounding."""
    torch.manual_seed(seed)
    mask = packed_mask(T, length)
    kept = sample_dropout_mask((B, H, T, T), p, mask.device) if p else None
    weight = torch.randn(B, H, T, K, dtype=torch.float64)
    gradients: dict[AttentionFunction, tuple[Tensor, ...]] = {}
    q, k, v = (tensor.detach().double().requires_grad_() for tensor in tensors(T))
    for attention in (explicit_attention, fused_backward_attention):
        values = attention(q, k, v, mask_for(attention, mask), kept)
        gradients[attention] = torch.autograd.grad((values * weight).sum(), (q, k, v))
    for by_hand, by_formula in zip(gradients[fused_backward_attention], gradients[explicit_attention], strict=True):
        torch.testing.assert_close(by_hand, by_formula, atol=1e-5, rtol=1e-5)  # the softmax is in fp32


def test_the_gradients_through_blocks_are_those_of_the_whole() -> None:
    T = 2 * BLOCK + 3
    inputs, mask = tensors(T), causal_mask(T)
    kept = sample_dropout_mask((B, H, T, T), 0.2, mask.device)
    weight = torch.randn(B, H, T, K, generator=torch.Generator().manual_seed(1))

    def gradients(kept: DropoutMask | None, lean: bool) -> tuple[Tensor, ...]:
        if lean:
            values = blockwise_attention(fused_backward_attention, *inputs, additive_mask(mask, torch.float32), kept)
        else:
            values = explicit_attention(*inputs, mask, kept)
        return torch.autograd.grad((values * weight).sum(), inputs)

    for masked in (None, kept):
        for in_parts, whole in zip(gradients(masked, True), gradients(masked, False), strict=True):
            torch.testing.assert_close(in_parts, whole, atol=1e-5, rtol=1e-5)


def test_the_future_has_no_gradient_by_hand_either() -> None:
    inputs = tensors(7)
    values = fused_backward_attention(*inputs, additive_mask(causal_mask(7), torch.float32))
    _, keys, content = torch.autograd.grad(values[..., :4, :].square().sum(), inputs)
    for gradient in (keys, content):
        assert torch.equal(gradient[..., 4:, :], torch.zeros_like(gradient[..., 4:, :]))
        assert gradient[..., :4, :].abs().min() > 0


def test_blocks_are_taken_for_short_bf16_sequences_and_not_after_a_cache() -> None:
    def chosen(T: int, S: int, dtype: torch.dtype) -> bool:
        return use_blockwise(torch.zeros(1, 1, T, 4, dtype=dtype), S)

    assert chosen(LONGEST, LONGEST, torch.bfloat16)
    assert not chosen(LONGEST + 1, LONGEST + 1, torch.bfloat16)
    assert not chosen(8, 8, torch.float32)
    assert not chosen(1, 8, torch.bfloat16)


@torch.no_grad()
def test_law_03_blockwise_attention_too_the_future_changes_no_bit() -> None:
    T = BLOCK + 9
    model = decoder(context_length=T)
    tokens = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(1))
    before = model(tokens, dtype=torch.bfloat16)
    for place in (3, BLOCK - 1, BLOCK, T - 1):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % V
        after = model(other, dtype=torch.bfloat16)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.equal(after[:, place], before[:, place])


@torch.no_grad()
def test_the_mask_is_made_of_numbers_only_for_compiled_blocks_that_read_it() -> None:
    model = decoder(context_length=LONGEST + 1)
    dtypes: list[torch.dtype] = []
    model.layers[0].register_forward_pre_hook(lambda block, inputs: dtypes.append(inputs[1].mask.dtype))

    def mask_dtype(T: int, dtype: torch.dtype, **arguments: Any) -> torch.dtype:
        model(torch.zeros(1, T, dtype=torch.int64), dtype=dtype, **arguments)
        return dtypes.pop()

    assert mask_dtype(LONGEST, torch.bfloat16) == torch.bool
    model.blocks_are_compiled = True
    assert mask_dtype(LONGEST, torch.bfloat16) == torch.float32
    assert mask_dtype(LONGEST + 1, torch.bfloat16) == torch.bool
    assert mask_dtype(LONGEST, torch.float32) == torch.bool
    cache = KVCache(model.config, 1, dtype=torch.bfloat16)
    assert mask_dtype(3, torch.bfloat16, cache=cache) == torch.float32
    assert mask_dtype(3, torch.bfloat16, cache=cache) == torch.bool


@torch.no_grad()
def test_a_mask_of_numbers_changes_no_bit_of_the_formula() -> None:
    (q, k, v), mask = tensors(9), packed_mask(9, 4)
    seen: dict[str, dict[str, Tensor]] = {"bool": {}, "numbers": {}}
    for name, form in (("bool", mask), ("numbers", additive_mask(mask, torch.float32))):
        explicit_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), form, tap=recording(seen[name]))
    for name, value in seen["bool"].items():
        assert value.dtype == seen["numbers"][name].dtype
        assert torch.equal(value, seen["numbers"][name])
