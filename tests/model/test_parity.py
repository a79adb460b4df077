"""The same weights in transformers' models give the same logits (law 15)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from decoders import IMPLEMENTATIONS, decoder, enliven, text
from lightwell.model.decoder import Decoder

transformers = pytest.importorskip("transformers", reason="parity needs transformers, which is in the dev extra")

GPT2_SHAPES: dict[str, dict[str, Any]] = {
    "odd": {"n_layers": 3, "n_heads": 3, "d_model": 39, "d_ff": 71, "vocab_size": 53, "context_length": 17},
    "one head": {"n_layers": 1, "n_heads": 1, "d_model": 7, "vocab_size": 11, "context_length": 5},
    "silu, untied": {"n_heads": 2, "d_model": 22, "activation": "silu", "tied_head": False, "norm_epsilon": 1e-3},
    "relu": {"n_heads": 5, "d_model": 35, "activation": "relu"},
}
LLAMA_SHAPES: dict[str, dict[str, Any]] = {
    "odd": {"n_layers": 3, "n_heads": 3, "d_model": 42, "d_ff": 71, "vocab_size": 53, "context_length": 17},
    "grouped heads": {"n_heads": 6, "n_kv_heads": 2, "d_model": 48, "rope_base": 500.0},
    "one key head, own width": {"n_heads": 5, "n_kv_heads": 1, "head_dim": 6, "d_model": 25, "norm_epsilon": 1e-3},
    "biases, tied": {"n_heads": 4, "d_model": 24, "bias": True, "qkv_bias": True, "tied_head": True},
    "geglu": {"activation": "geglu", "n_layers": 1},
}


NOISE = 0.15
"""Of the weights; larger ones make larger logits, and of those fp32 loses more than 1e-5."""


def copy_linear(target: Any, weight: Tensor, bias: Tensor | None) -> None:
    target.weight.copy_(weight)
    assert (target.bias is None) == (bias is None)
    if bias is not None:
        target.bias.copy_(bias)


@torch.no_grad()
def as_gpt2(model: Decoder) -> Any:
    """transformers' GPT-2 with the weights of `model`; its Conv1D has them the other way round."""
    c = model.config
    config = transformers.GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.context_length, n_embd=c.d_model, n_layer=c.n_layers, n_head=c.n_heads,
        n_inner=c.ff_width, layer_norm_epsilon=c.norm_epsilon,
        activation_function="gelu_new" if c.activation == "gelu_tanh" else c.activation,
        tie_word_embeddings=c.tied_head, attn_implementation="eager",
    )  # fmt: skip
    other = transformers.GPT2LMHeadModel(config).eval()
    body = other.transformer
    body.wte.weight.copy_(model.token_embedding.weight)
    assert model.position_embedding is not None
    body.wpe.weight.copy_(model.position_embedding.weight)
    body.ln_f.load_state_dict(model.norm.state_dict())
    other.lm_head.weight.copy_((model.unembedding or model.token_embedding).weight)
    for block, own in zip(body.h, model.layers, strict=True):
        part: Any = own
        block.ln_1.load_state_dict(part.attention_norm.state_dict())
        block.ln_2.load_state_dict(part.feed_forward_norm.state_dict())
        for target, source in (
            (block.attn.c_attn, part.attention.qkv),
            (block.attn.c_proj, part.attention.output),
            (block.mlp.c_fc, part.feed_forward.up),
            (block.mlp.c_proj, part.feed_forward.down),
        ):
            copy_linear(target, source.weight.T, source.bias)
    return other


@torch.no_grad()
def as_llama(model: Decoder, family: str = "Llama", **others: Any) -> Any:
    """transformers' Llama, or a family built like it, with the weights of `model`."""
    c = model.config
    config = getattr(transformers, f"{family}Config")(
        vocab_size=c.vocab_size, max_position_embeddings=c.context_length, hidden_size=c.d_model,
        intermediate_size=c.ff_width, num_hidden_layers=c.n_layers, num_attention_heads=c.n_heads,
        num_key_value_heads=c.kv_heads, head_dim=c.head_width, rms_norm_eps=c.norm_epsilon,
        hidden_act={"swiglu": "silu", "geglu": "gelu"}[c.activation], tie_word_embeddings=c.tied_head,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base}, attn_implementation="eager",
        attention_bias=c.qkv_bias, mlp_bias=c.bias, **others,
    )  # fmt: skip
    other = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    body = other.model
    body.embed_tokens.weight.copy_(model.token_embedding.weight)
    body.norm.weight.copy_(model.norm.weight)
    other.lm_head.weight.copy_((model.unembedding or model.token_embedding).weight)
    widths = (c.n_heads * c.head_width, c.kv_heads * c.head_width, c.kv_heads * c.head_width)
    for block, own in zip(body.layers, model.layers, strict=True):
        part: Any = own
        block.input_layernorm.weight.copy_(part.attention_norm.weight)
        block.post_attention_layernorm.weight.copy_(part.feed_forward_norm.weight)
        biases = (None,) * 3 if part.attention.qkv.bias is None else part.attention.qkv.bias.split(widths)
        for name, weight, bias in zip("qkv", part.attention.qkv.weight.split(widths), biases, strict=True):
            copy_linear(getattr(block.self_attn, f"{name}_proj"), weight, bias)
            if c.qk_norm and name in "qk":
                getattr(block.self_attn, f"{name}_norm").weight.copy_(getattr(part.attention, f"{name}_norm").weight)
        copy_linear(block.self_attn.o_proj, part.attention.output.weight, part.attention.output.bias)
        for name in ("up", "gate", "down"):
            projection = getattr(part.feed_forward, name)
            copy_linear(getattr(block.mlp, f"{name}_proj"), projection.weight, projection.bias)
    return other


@torch.no_grad()
def assert_same_logits(model: Decoder, other: Any) -> None:
    """Equal to 1e-5; with a standard deviation near 1, so that this is what fp32 can keep."""
    c = model.config
    assert sum(parameter.numel() for parameter in other.parameters()) == c.parameter_count()
    for T in {1, 2, c.context_length}:
        tokens = text(3, T, vocab_size=c.vocab_size)
        logits, expected = model(tokens), other(tokens).logits
        assert 0.3 < expected.std() < 1.5
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", GPT2_SHAPES)
def test_law_15_logits_are_those_of_gpt2(shape: str, implementation: str) -> None:
    gpt2: dict[str, Any] = {
        "norm": "layernorm",
        "positions": "learned",
        "qk_norm": False,
        "bias": True,
        "qkv_bias": True,
    }
    model = decoder(noise=NOISE, **(gpt2 | GPT2_SHAPES[shape] | {"attention": implementation}))
    assert_same_logits(model, as_gpt2(model))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", LLAMA_SHAPES)
def test_law_15_logits_are_those_of_llama(shape: str, implementation: str) -> None:
    llama = {"activation": "swiglu", "qk_norm": False, "tied_head": False}
    model = decoder(noise=NOISE, **(llama | LLAMA_SHAPES[shape] | {"attention": implementation}))
    assert_same_logits(model, as_llama(model))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_15_normalised_queries_and_keys_are_those_of_qwen3(implementation: str) -> None:
    model = decoder(noise=NOISE, activation="swiglu", qk_norm=True, n_kv_heads=2, attention=implementation)
    assert_same_logits(model, as_llama(model, "Qwen3"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_15_a_sliding_window_is_that_of_mistral(implementation: str) -> None:
    model = decoder(
        noise=NOISE, activation="swiglu", qk_norm=False, tied_head=False, attention_window=3, attention=implementation
    )
    assert_same_logits(model, as_llama(model, "Mistral", sliding_window=3))


def test_the_comparison_would_notice_other_weights() -> None:
    model = decoder(noise=NOISE, activation="swiglu", qk_norm=False, tied_head=False)
    other = as_llama(model)
    enliven(model)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_same_logits(model, other)
