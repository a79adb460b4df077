"""The untrained model: no opinion about the next token, at any shape, and from a random stream of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from decoders import KINDS, TINY, text
from lightwell.errors import SettingError
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder

SHAPES: dict[str, dict[str, Any]] = {
    "narrow": {"d_model": 16, "n_heads": 2},
    "wide": {"d_model": 768, "n_heads": 12, "n_layers": 1},
    "deep": {"n_layers": 24, "d_model": 64},
    "many tokens": {"vocab_size": 8000},
    "large weights": {"init_std": 0.2},
    "learned positions, untied head": {"positions": "learned", "tied_head": False, "norm": "layernorm"},
    "gpt2": {"positions": "learned", "norm": "layernorm", "activation": "gelu", "bias": True, "qkv_bias": True},
    "llama": {"activation": "swiglu", "qk_norm": False, "tied_head": False, "n_kv_heads": 2},
}


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_law_01_untrained_loss_is_ln_v(name: str) -> None:
    config = ModelConfig(**(TINY | {"vocab_size": 300, "context_length": 64} | SHAPES[name]))
    V = config.vocab_size
    tokens, targets = text(4, 64, vocab_size=V), text(4, 64, seed=2, vocab_size=V)
    logits = Decoder(config).eval()(tokens)
    assert F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item() == pytest.approx(math.log(V), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_follow_from_the_seed_and_no_other_stream_is_touched(kind: str) -> None:
    config = ModelConfig(**(TINY | KINDS[kind]))
    state = torch.get_rng_state()
    first = Decoder(config, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again, other = Decoder(config, seed=4).state_dict(), Decoder(config, seed=5).state_dict()
    torch.set_rng_state(state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if "norm" not in name and not name.endswith("bias")]
    assert len(drawn) >= 9
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("n_layers", [1, 8])
def test_every_weight_has_the_deviation_that_it_should(n_layers: int) -> None:
    """Into the residual stream smaller by sqrt(2 n_layers), embeddings so that logits stay small, the rest init_std."""
    config = ModelConfig(
        **(TINY | {"vocab_size": 500, "d_model": 96, "n_layers": n_layers, "init_std": 0.05, "context_length": 300}),
        activation="swiglu", positions="learned", norm="layernorm", bias=True, qkv_bias=True, tied_head=False,
    )  # fmt: skip
    into_residual, embedding = 0.05 / math.sqrt(2 * n_layers), 0.3 / math.sqrt(96)
    expected = {
        "token_embedding.weight": embedding,
        "position_embedding.weight": embedding,
        "unembedding.weight": embedding,
        "attention.qkv.weight": 0.05,
        "attention.output.weight": into_residual,
        "feed_forward.up.weight": 0.05,
        "feed_forward.gate.weight": 0.05,
        "feed_forward.down.weight": into_residual,
    }
    seen = set()
    for name, parameter in Decoder(config).named_parameters():
        kind = name.split(".", 2)[2] if name.startswith("layers.") else name
        if kind in expected:
            seen.add(kind)
            assert parameter.std().item() == pytest.approx(expected[kind], rel=0.05), name
            assert abs(parameter.mean().item()) < 0.05 * expected[kind], name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, 0.0 if name.endswith("bias") else 1.0)), name
    assert seen == expected.keys()


def test_a_model_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(SettingError, match="vocab_size is 0"):
        Decoder(ModelConfig())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_heads": 5, "d_model": 24}, r"n_heads is 5, which does not divide d_model 24; .*1, 2, 3, 4, 6, 8, 12, 24"),
        ({"n_heads": 4, "n_kv_heads": 3}, r"n_kv_heads is 3, which does not divide n_heads 4; choose one of 1, 2, 4\."),
        ({"n_heads": 8, "d_model": 24}, r"head_dim is 3, but rope turns pairs of dimensions; choose an even head_dim"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_a_remedy(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        ModelConfig(**settings)
