"""How many parameters: by the formula, by counting, and as published."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import decoder
from lightwell.model.config import Activation, ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.settings.presets import preset

BOOK = preset("book-124m").model  # no bias in the projections to q, k and v


def count(config: ModelConfig) -> int:
    """Built without memory for the weights."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Decoder(config).parameters())


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({}, 163_009_536),
        ({"tied_head": True}, 124_412_160),
        ({"tied_head": True, "qkv_bias": True}, 124_439_808),
    ],
    ids=["the book, untied", "the book, tied", "GPT-2"],
)
def test_published_figures(settings: dict[str, Any], published: int) -> None:
    config = dataclasses.replace(BOOK, **settings)
    assert config.parameter_count() == published
    assert count(config) == published


def test_presets_have_the_sizes_of_their_names() -> None:
    assert preset("gpt2-124m").model.parameter_count() == 124_439_808
    assert sized("llama-15m", 32000) == 15_191_712  # stories15M of llama2.c
    assert sized("llama-135m", 49152) == 134_515_008  # SmolLM-135M
    assert sized("tiny", 512) < 1e6 < sized("small", 2048) < 5e6


def sized(name: str, vocab_size: int) -> int:
    return preset(name).with_values({"vocab_size": vocab_size}).model.parameter_count()


MODELS = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(1, 50),
        "context_length": st.integers(1, 20),
        "n_layers": st.integers(1, 3),
        "n_heads": st.sampled_from([2, 4]),
        "n_kv_heads": st.sampled_from([0, 1, 2]),
        "d_model": st.sampled_from([4, 12, 20]),
        "head_dim": st.sampled_from([0, 2, 6]),
        "d_ff": st.integers(0, 9),
        "activation": st.sampled_from(get_args(Activation)),
        "norm": st.sampled_from(["layernorm", "rmsnorm"]),
        "positions": st.sampled_from(["learned", "none"]),
        **{name: st.booleans() for name in ("qk_norm", "qkv_bias", "bias", "tied_head")},
    }
)


@given(MODELS)
def test_law_12_the_formula_equals_the_count(settings: dict[str, Any]) -> None:
    config = ModelConfig(**settings)
    assert config.parameter_count() == sum(parameter.numel() for parameter in Decoder(config).parameters())


def test_law_12_a_tied_head_is_one_tensor() -> None:
    tied, untied = decoder(tied_head=True), decoder(tied_head=False)
    assert tied.unembedding is None
    names = {name for name, _ in untied.named_parameters()} - {name for name, _ in tied.named_parameters()}
    assert names == {"unembedding.weight"}
    assert "unembedding.weight" not in tied.state_dict()
    x = torch.eye(tied.config.d_model)
    assert torch.equal(tied.head(x), tied.token_embedding.weight.T)
    (gradient,) = torch.autograd.grad(tied.head(x).sum(), tied.token_embedding.weight)
    assert torch.equal(gradient, torch.ones_like(gradient))  # the head's gradient arrives in the embedding
    with torch.no_grad():
        tied.token_embedding.weight.zero_()
    assert not tied.head(x).any()
    assert untied.head(x).any()
