"""A trace keeps every intermediate of the formula, with named axes, and changes nothing by looking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from lightwell.errors import SettingError
from lightwell.insight.trace import trace
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.text.config import TextConfig
from lightwell.text.tokenizer import Tokenizer, make_tokenizer

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
    assert repr(row) == "NamedArray(key 12; float32)"


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


def test_token_ids_are_taken_as_they_are(tokenizer: Tokenizer) -> None:
    traced = model(tokenizer)
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXT).tolist()]
    assert torch.equal(trace(traced, ids).logits.values, trace(traced, TEXT).logits.values)
    with pytest.raises(SettingError, match="no token ids"):
        trace(traced, [])
    with pytest.raises(SettingError, match="do not fit the context_length"):
        trace(traced, TEXT * 3)
