"""Law 8: logits with the cache are those without it, whatever the batch, and past the context length too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightwell.generation.context import RollingContext, context_start
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder

LENGTH, VOCABULARY = 12, 23
MODELS: dict[str, dict[str, Any]] = {
    "learned": {"positions": "learned", "norm": "layernorm", "bias": True, "qk_norm": False},
    "rope": {"positions": "rope", "n_kv_heads": 1},
    "none": {"positions": "none"},
    "sliding window": {"positions": "rope", "attention_window": 5},
    "learned sliding window, explicit": {"positions": "learned", "attention_window": 5, "attention": "explicit"},
}


def decoder(**model: Any) -> Decoder:
    tiny = {"vocab_size": VOCABULARY, "context_length": LENGTH, "d_model": 16, "n_heads": 2, "n_layers": 2}
    built = Decoder(ModelConfig(**(tiny | model)), seed=3).eval()
    with torch.no_grad():
        for parameter in built.parameters():  # far from the small initial weights, so that every token matters
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return built


def uncached(model: Decoder, text: list[int]) -> Tensor:
    """(V,): the model reads what it sees of one text, alone, without padding or cache."""
    logits: Tensor = model(torch.tensor([text[context_start(len(text), LENGTH) :]]))
    return logits[0, -1]


def texts(lengths: list[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


@given(st.integers(1, 400), st.integers(1, 64))
def test_context_start(n: int, length: int) -> None:
    start = context_start(n, length)
    assert 1 <= n - start <= length
    assert (start == 0) == (n <= length)
    assert n - start > 3 * length / 4 - 1 or n <= length  # a hop drops at most a quarter
    assert context_start(n + 1, length) >= start


def test_the_start_moves_in_hops() -> None:
    assert [context_start(n, 12) for n in range(11, 20)] == [0, 0, 3, 3, 3, 6, 6, 6, 9]


@torch.no_grad()
@pytest.mark.parametrize("lengths", [[1], [12], [30], [4, 4, 4], [1, 7, 12, 13, 20]], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_law_08_cached_logits_are_uncached_logits(name: str, lengths: list[int]) -> None:
    model, rows = decoder(**MODELS[name]), list(range(len(lengths)))
    batch = texts(lengths)
    context = RollingContext(model)
    for following in zip(*texts([28] * len(lengths)), strict=True):  # well past the context length of each
        logits = context.logits(batch, rows)
        expected = torch.stack([uncached(model, text) for text in batch])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        for text, token in zip(batch, following, strict=True):
            text.append(token)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_law_08_any_prefix_split(name: str) -> None:
    model = decoder(**MODELS[name])
    (whole,) = texts([LENGTH])
    expected = uncached(model, whole)
    for split in range(1, LENGTH):
        text, context = whole[:split], RollingContext(model)
        for token in whole[split:]:
            context.logits([text], [0])
            text.append(token)
        torch.testing.assert_close(context.logits([text], [0])[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_law_08_rows_may_drop_out() -> None:
    model, batch, rows = decoder(), texts([3, 9, 5, 12]), [0, 1, 2, 3]
    context = RollingContext(model)
    for step, following in enumerate(texts([4] * 30)):
        if step in (2, 11, 17):
            rows.remove({2: 3, 11: 0, 17: 1}[step])
        logits = context.logits(batch, rows)
        expected = torch.stack([uncached(model, batch[row]) for row in rows])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
        for row in rows:
            batch[row].append(following[row])


@torch.no_grad()
def test_a_step_costs_one_token_until_the_start_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (text,) = decoder(), texts([2])
    widths: list[int] = []
    hidden = model.hidden

    def watched(tokens: Tensor, **others: Any) -> Tensor:
        widths.append(tokens.size(1))
        return hidden(tokens, **others)

    monkeypatch.setattr(model, "hidden", watched)
    context = RollingContext(model)
    for _ in range(18):
        context.logits([text], [0])
        text.append(1)
    assert widths == [2, *[1] * 10, 10, 1, 1, 10, 1, 1, 10]
