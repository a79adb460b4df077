"""A trace keeps every intermediate of the formula, with named axes, and changes nothing by looking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

import lightwell as lw
from decoders import KINDS, decoder
from lightwell.errors import SettingError
from lightwell.insight.trace import trace
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.model.tap import AXES
from lightwell.text.config import TextConfig
from lightwell.tokens.tokenizer import Tokenizer, make_tokenizer

TEXT = "the cat sat"


@dataclass(frozen=True)
class Model:
    """The least that a trace asks for."""

    decoder: Decoder
    tokenizer: Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(TextConfig(tokenizer="character"), 0, [TEXT])


def model(tokenizer: Tokenizer, **settings: Any) -> Model:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32
    )
    return Model(Decoder(replace(config, **settings)), tokenizer)


FORMULA = {
    "tokens", "token_embeddings", "embeddings", "normed", "logits",
    "layers.1.attention.input", "layers.1.attention.q", "layers.1.attention.k", "layers.1.attention.v",
    "layers.1.attention.scores", "layers.1.attention.scaled", "layers.1.attention.masked",
    "layers.1.attention.weights", "layers.1.attention.dropped", "layers.1.attention.values",
    "layers.1.attention.output", "layers.1.residual_middle", "layers.1.feed_forward.input",
    "layers.1.feed_forward.hidden", "layers.1.feed_forward.activations", "layers.1.feed_forward.output",
    "layers.1.residual",
}  # fmt: skip


@pytest.mark.parametrize("attention", ["explicit", "fused"])
def test_every_intermediate_of_the_formula_is_there(tokenizer: Tokenizer, attention: str) -> None:
    found = trace(model(tokenizer, attention=attention), TEXT)
    assert set(found) >= FORMULA
    assert found.names[0] == "tokens"
    assert found.names[-1] == "logits"


def test_some_intermediates_belong_to_some_settings(tokenizer: Tokenizer) -> None:
    assert "position_embeddings" in trace(model(tokenizer, positions="learned"), TEXT)
    assert "layers.0.feed_forward.gate" in trace(model(tokenizer, activation="swiglu"), TEXT)
    assert "layers.0.feed_forward.gate" not in trace(model(tokenizer), TEXT)


@pytest.mark.parametrize("attention", ["explicit", "fused"])
@pytest.mark.parametrize("settings", [{}, {"positions": "learned"}, {"attention_window": 3}, {"activation": "geglu"}])
def test_logits_with_and_without_capture_are_the_same_bits(
    tokenizer: Tokenizer, attention: str, settings: dict[str, Any]
) -> None:
    traced = model(tokenizer, attention=attention, attention_dropout=0.3, **settings)
    found = trace(traced, TEXT)
    ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(TEXT)]])
    with torch.no_grad():
        plain = traced.decoder.eval()(ids)
    assert torch.equal(found.logits.values, plain)


def test_the_intermediates_are_those_of_the_formula(tokenizer: Tokenizer) -> None:
    """Each step follows from the one before it by the formula, for the fused attention too."""
    found = trace(model(tokenizer), TEXT)
    at = {name: found[f"layers.0.attention.{name}"].values for name in ("q", "k", "v", "scores", "scaled", "weights")}
    k, v = (at[name].repeat_interleave(2, dim=1) for name in ("k", "v"))
    torch.testing.assert_close(at["scores"], at["q"] @ k.transpose(-2, -1))
    torch.testing.assert_close(at["scaled"], at["scores"] / 8**0.5)
    torch.testing.assert_close(at["weights"].sum(-1), torch.ones(1, 4, 12))
    torch.testing.assert_close(found["layers.0.attention.values"].values, at["weights"] @ v)
    middle = found["embeddings"].values + found["layers.0.attention.output"].values
    torch.testing.assert_close(found["layers.0.residual_middle"].values, middle)
    end = middle + found["layers.0.feed_forward.output"].values
    torch.testing.assert_close(found["layers.0.residual"].values, end)


def test_axes_have_names_and_tokens(tokenizer: Tokenizer) -> None:
    weights = trace(model(tokenizer), TEXT)["layers.1.attention.weights"]
    assert weights.shape == {"batch": 1, "head": 4, "query": 12, "key": 12}
    row = weights.select(batch=0, head=1, query=-1)
    assert row.axes == ("key",)
    assert row.labels["key"][1:4] == ["t", "h", "e"]
    assert row.numpy().sum() == pytest.approx(1)
    assert torch.equal(row.values, weights.values[0, 1, -1])
    assert repr(row).startswith("NamedArray(key 12; float32)")


@pytest.mark.parametrize("kind", KINDS)
def test_every_axis_has_the_size_that_the_model_gives_it(kind: str, tokenizer: Tokenizer) -> None:
    traced = Model(decoder(vocab_size=tokenizer.vocab_size, **KINDS[kind]), tokenizer)
    found, c = trace(traced, TEXT), traced.decoder.config
    sizes = {
        "batch": 1, "time": 12, "query": 12, "key": 12, "model": c.d_model, "head": c.n_heads, "dim": c.head_width,
        "kv_head": c.kv_heads, "hidden": c.ff_width, "vocabulary": c.vocab_size,
    }  # fmt: skip
    for name, array in found.items():
        assert array.shape == {axis: sizes[axis] for axis in AXES[name.rpartition(".")[2]]}
        assert array.labels == {axis: found.tokens for axis in array.axes if axis in ("time", "query", "key")}


def test_both_implementations_have_the_same_intermediates(tokenizer: Tokenizer) -> None:
    explicit, fused = (
        trace(Model(decoder(vocab_size=tokenizer.vocab_size, attention=name), tokenizer), TEXT)
        for name in ("explicit", "fused")
    )
    assert explicit.names == fused.names
    for name in explicit:
        torch.testing.assert_close(explicit[name].values, fused[name].values, atol=1e-5, rtol=1e-5)


def test_values_become_numpy_arrays_also_those_that_numpy_has_no_type_for(tokenizer: Tokenizer) -> None:
    traced = model(tokenizer)
    traced.decoder.to(torch.bfloat16)
    found = trace(traced, TEXT)
    assert found.logits.values.dtype == torch.bfloat16
    assert found.logits.numpy().dtype == np.float32
    assert found["tokens"].numpy().tolist() == [[tokenizer.end_of_text, *tokenizer.encode(TEXT)]]


def test_the_example_of_the_package(tokenizer: Tokenizer) -> None:
    language_model = lw.LanguageModel(model(tokenizer, n_layers=3).decoder, tokenizer)
    found = lw.trace(language_model, "the cat")
    assert found["layers.2.attention.weights"].shape == {"batch": 1, "head": 4, "query": 8, "key": 8}
    assert found.tokens == ["<|endoftext|>", *"the cat"]


def test_wrong_names_offer_the_nearest(tokenizer: Tokenizer) -> None:
    found = trace(model(tokenizer), TEXT)
    with pytest.raises(SettingError, match=r"Did you mean layers\.1\.attention\.weights\?"):
        found["layers.1.attention.weight"]
    with pytest.raises(SettingError, match="Did you mean head"):
        found["layers.1.attention.weights"].select(heads=0)
    with pytest.raises(SettingError, match="head is 9, but the axis has 4"):
        found["layers.1.attention.weights"].select(head=9)


def test_names_are_found_by_pattern(tokenizer: Tokenizer) -> None:
    found = trace(model(tokenizer), TEXT)
    assert found.names_matching("layers.*.attention.weights") == [
        "layers.0.attention.weights", "layers.1.attention.weights",
    ]  # fmt: skip


def test_looking_leaves_no_mark(tokenizer: Tokenizer) -> None:
    traced = model(tokenizer)
    traced.decoder.train()
    state = torch.get_rng_state()
    found = trace(traced, TEXT)
    assert torch.equal(torch.get_rng_state(), state)
    assert traced.decoder.training
    assert not found.logits.values.requires_grad
    found["embeddings"].values.zero_()  # a copy: a second trace is as the first was
    assert trace(traced, TEXT)["embeddings"].values.abs().sum() > 0


def test_every_module_gets_its_own_mode_back_also_when_tracing_fails(tokenizer: Tokenizer) -> None:
    traced = model(tokenizer)
    traced.decoder.train()
    traced.decoder.layers[1].eval()
    modes = [module.training for module in traced.decoder.modules()]
    trace(traced, TEXT)
    assert [module.training for module in traced.decoder.modules()] == modes
    with pytest.raises(SettingError, match="do not fit the context_length"):
        trace(traced, TEXT * 3)
    assert [module.training for module in traced.decoder.modules()] == modes


def test_token_ids_are_taken_as_they_are(tokenizer: Tokenizer) -> None:
    traced = model(tokenizer)
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXT).tolist()]
    assert torch.equal(trace(traced, ids).logits.values, trace(traced, TEXT).logits.values)
    for unknown in (-1, tokenizer.vocab_size):
        with pytest.raises(SettingError, match=f"^{unknown} is no token id of this model; there are [0-9,]+, from 0"):
            trace(traced, [0, unknown])
    with pytest.raises(SettingError, match="no token ids"):
        trace(traced, [])
    with pytest.raises(SettingError, match="do not fit the context_length"):
        trace(traced, TEXT * 3)


@pytest.mark.parametrize("attention", ["explicit", "fused"])
def test_each_intermediate_is_a_copy_of_its_own(tokenizer: Tokenizer, attention: str) -> None:
    recorded = trace(model(tokenizer, attention=attention), TEXT)
    storages = {name: array.values.untyped_storage().data_ptr() for name, array in recorded.items()}
    assert len(set(storages.values())) == len(storages)  # q, k and v flow as views of one tensor


def test_negative_positions_count_from_the_end_as_far_as_the_axis_goes(tokenizer: Tokenizer) -> None:
    weights = trace(model(tokenizer), TEXT)["layers.0.attention.weights"]
    size = weights.shape["key"]
    assert torch.equal(weights.select(key=-size).values, weights.values[..., 0])
    assert torch.equal(weights.select(key=-1).values, weights.select(key=size - 1).values)
    for outside in (-size - 1, size):
        with pytest.raises(SettingError, match=f"^key is {outside}, but the axis has {size} positions"):
            weights.select(key=outside)
