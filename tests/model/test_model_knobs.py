"""The knob rule for ModelConfig: turning a field changes something measurable, its neutral value changes nothing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decoders import TINY, L, V, decoder, enliven, text, watch
from lightwell.errors import SettingError
from lightwell.model.config import Activation, ModelConfig
from lightwell.model.decoder import Decoder


@dataclass(frozen=True)
class Knob:
    """One field: a value that must show, where it must show, and one that must not (both with what they need)."""

    turned: dict[str, Any]
    shows_in: str
    neutral: dict[str, Any]


ITSELF = {"attention_window": 1}  # each token sees itself alone, with the weight 1, whatever its scores are

KNOBS = {
    "vocab_size": Knob({"vocab_size": V + 4}, "parameters", {"vocab_size": V}),
    "context_length": Knob({"context_length": L + 1}, "longest text", {"context_length": 3 * L}),
    "n_layers": Knob({"n_layers": 3}, "parameters", {"n_layers": 3}),  # neutral: the third block's weights are 0
    "n_heads": Knob({"n_heads": 2, "qk_norm": False}, "logits", {"n_heads": 2, "qk_norm": False, **ITSELF}),
    "n_kv_heads": Knob({"n_kv_heads": 2}, "parameters", {"n_kv_heads": 4}),
    "d_model": Knob({"d_model": 32}, "parameters", {"d_model": 24}),
    "head_dim": Knob({"head_dim": 10}, "parameters", {"head_dim": 6}),
    "d_ff": Knob({"d_ff": 50}, "parameters", {"d_ff": 96}),
    "activation": Knob({"activation": "gelu"}, "logits", {"activation": "relu2"}),
    "norm": Knob({"norm": "layernorm"}, "logits", {"norm": "rmsnorm"}),
    "norm_epsilon": Knob({"norm_epsilon": 0.1}, "logits", {"norm_epsilon": 1e-5}),
    "positions": Knob({"positions": "none"}, "logits", {"positions": "none", **ITSELF}),
    "rope_base": Knob({"rope_base": 100.0}, "logits", {"rope_base": 100.0, "positions": "none"}),
    "attention": Knob({"attention": "explicit"}, "operations", {"attention": "fused"}),  # equal to 1e-5: law 4
    "attention_window": Knob({"attention_window": 3}, "logits", {"attention_window": L, "attention": "explicit"}),
    "qk_norm": Knob({"qk_norm": False}, "logits", {"qk_norm": False, **ITSELF}),
    "qkv_bias": Knob({"qkv_bias": True}, "parameters", {"qkv_bias": True}),  # neutral: the biases are 0
    "bias": Knob({"bias": True}, "parameters", {"bias": True}),
    "tied_head": Knob({"tied_head": False}, "parameters", {"tied_head": False}),  # neutral: a copy of the embedding
    "embedding_dropout": Knob({"embedding_dropout": 0.3}, "training", {"embedding_dropout": 0.0}),
    "attention_dropout": Knob({"attention_dropout": 0.3}, "training", {"attention_dropout": 0.0}),
    "residual_dropout": Knob({"residual_dropout": 0.3}, "training", {"residual_dropout": 0.0}),
    "init_std": Knob({"init_std": 0.04}, "initial weights", {"init_std": 0.04}),  # neutral: the weights are given
}
DROPOUTS = ("embedding_dropout", "attention_dropout", "residual_dropout")


def without(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a knob needs, alone, so that a difference from it is the knob's own."""
    return {key: value for key, value in settings.items() if key != name}


@torch.no_grad()
def logits_of(model: Decoder, training: bool = False) -> Tensor:
    torch.manual_seed(3)
    logits: Tensor = model.train(training)(text())
    model.eval()
    return logits


@torch.no_grad()
def observed(settings: dict[str, Any]) -> dict[str, Any]:
    """All that a knob could show in."""
    model = decoder(**settings)
    logits = logits_of(model)
    initial = Decoder(model.config).get_parameter("layers.0.attention.qkv.weight")
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "longest text": longest_text(model),
        "logits": logits,
        "training": logits_of(model, training=True),
        "operations": kernels_called(model),
        "initial weights": round(initial.std().item(), 2),
    }


def kernels_called(model: Decoder) -> int:
    """How often one forward pass calls torch's own attention; the formula never does."""
    called: list[int] = []
    own = F.scaled_dot_product_attention

    def counted(*given: Any, **named: Any) -> Tensor:
        called.append(1)
        return own(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", counted)
        model(text())
    return len(called)


def longest_text(model: Decoder) -> int:
    """Tokens that the model takes at once, found by giving it more and more."""
    for T in itertools.count(1):
        try:
            model(text(1, T))
        except SettingError:
            return T - 1
    raise AssertionError


def same(left: Any, right: Any) -> bool:
    return torch.equal(left, right) if isinstance(left, Tensor) else bool(left == right)


def test_every_field_is_turned_and_has_a_neutral_value() -> None:
    assert [field.name for field in ModelConfig.fields()] == list(KNOBS)
    assert all(name in knob.turned and name in knob.neutral for name, knob in KNOBS.items())


@pytest.mark.parametrize("name", KNOBS)
def test_turning_a_knob_shows(name: str) -> None:
    knob = KNOBS[name]
    found, against = observed(knob.turned), observed(without(name, knob.turned))
    assert not same(found[knob.shows_in], against[knob.shows_in])
    if knob.shows_in == "training":  # dropout is off in evaluation
        assert torch.equal(found["logits"], against["logits"])
    if knob.shows_in == "logits" and name != "qk_norm":  # the weights are the same, so the knob itself is seen
        assert found["parameters"] == against["parameters"]


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.shows_in == "parameters"])
def test_every_parameter_that_a_knob_brings_takes_part(name: str) -> None:
    model = decoder(**KNOBS[name].turned)
    model(text()).square().mean().backward()
    idle = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


@torch.no_grad()
def with_weights_of(base: Decoder, settings: dict[str, Any]) -> Decoder:
    """A model with the base's weights; what the base has no weights for adds nothing: zeros, or a copied head."""
    model = Decoder(ModelConfig(**(TINY | settings))).eval()
    missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
    assert all("attention.q_norm" in name or "attention.k_norm" in name for name in unexpected)
    for name in missing:
        parameter = model.get_parameter(name)
        if name == "unembedding.weight":
            parameter.copy_(base.token_embedding.weight)
        else:
            parameter.zero_()
    return model


@pytest.mark.parametrize("name", KNOBS)
def test_the_neutral_value_of_a_knob_changes_no_bit(name: str) -> None:
    neutral = KNOBS[name].neutral
    base = decoder(**without(name, neutral))
    model = with_weights_of(base, neutral)
    assert torch.equal(logits_of(model), logits_of(base))
    assert torch.equal(logits_of(model, training=True), logits_of(base, training=True))
    assert torch.equal(logits_of(model, training=True), logits_of(base))


@torch.no_grad()
def test_a_larger_vocabulary_leaves_the_logits_of_the_others() -> None:
    small = decoder()
    large = Decoder(ModelConfig(**(TINY | {"vocab_size": V + 4}))).eval()
    rows = torch.cat((small.token_embedding.weight, torch.ones(4, 24)))
    large.load_state_dict(small.state_dict() | {"token_embedding.weight": rows})
    torch.testing.assert_close(large(text())[..., :V], small(text()), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["activation", "norm", "positions"])
def test_no_two_choices_of_a_knob_are_the_same(name: str) -> None:
    (field,) = (field for field in ModelConfig.fields() if field.name == name)
    choices = field.allowed.removeprefix("one of ").split(", ")
    turned: list[dict[str, Any]] = [{name: choice} for choice in choices]
    found = [logits_of(decoder(**settings)) for settings in turned]
    assert len(found) >= 2
    for left, right in itertools.combinations(found, 2):
        assert not torch.allclose(left, right, atol=1e-5)  # gelu and its tanh form differ by little more


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_norm_epsilon_reaches_every_norm(norm: str) -> None:
    """One that is left out would be hidden by the others, which still change the logits."""
    settings: dict[str, Any] = {"norm": norm, "norm_epsilon": 0.1}
    norms = [part for part in decoder(**settings).modules() if isinstance(part, (nn.LayerNorm, nn.RMSNorm))]
    assert len(norms) == 2 * 4 + 1  # before each branch, for queries and for keys, and before the head
    assert {part.eps for part in norms} == {0.1}


@pytest.mark.parametrize("name", DROPOUTS)
def test_a_dropout_of_its_own_place_is_none_of_the_others(name: str) -> None:
    """Each place alone changes the training logits in its own way."""
    base = decoder()
    found = {}
    for place in DROPOUTS:
        model = enliven(Decoder(ModelConfig(**(TINY | {place: 0.3}))))
        found[place] = logits_of(model, training=True)
    assert not torch.equal(found[name], logits_of(base))
    assert all(not torch.equal(found[name], found[other]) for other in DROPOUTS if other != name)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"vocab_size": -1}, "vocab_size is -1, but must be a whole number, 0 or more."),
        ({"context_length": 0}, "context_length is 0, but must be a whole number, 1 or more."),
        ({"n_layers": 0}, "n_layers is 0, but must be a whole number, 1 or more."),
        ({"n_heads": 0}, "n_heads is 0, but must be a whole number, 1 or more."),
        ({"n_heads": 7}, "n_heads is 7, which does not divide d_model 24; choose one that does "
         "(1, 2, 3, 4, 6, 8, 12, 24) or set head_dim."),
        ({"n_kv_heads": -1}, "n_kv_heads is -1, but must be a whole number, 0 or more."),
        ({"n_kv_heads": 3}, "n_kv_heads is 3, which does not divide n_heads 4; choose one of 1, 2, 4."),
        ({"n_kv_heads": 8}, "n_kv_heads is 8, which does not divide n_heads 4; choose one of 1, 2, 4."),
        ({"d_model": 0}, "d_model is 0, but must be a whole number, 1 or more."),
        ({"d_model": 24.5}, "d_model is 24.5, but must be a whole number, 1 or more."),
        ({"head_dim": -2}, "head_dim is -2, but must be a whole number, 0 or more."),
        ({"head_dim": 5}, "head_dim is 5, but rope turns pairs of dimensions; choose an even head_dim or positions "
         "learned or none."),
        ({"d_ff": -1}, "d_ff is -1, but must be a whole number, 0 or more."),
        ({"activation": "gelo"}, f"activation is 'gelo', but must be one of {', '.join(get_args(Activation))}. "
         "Did you mean gelu?"),
        ({"norm": "layer_norm"}, "norm is 'layer_norm', but must be one of layernorm, rmsnorm. "
         "Did you mean layernorm?"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0, but must be a number, more than 0.0."),
        ({"positions": 1}, "positions is 1, but must be one of learned, rope, none."),
        ({"rope_base": 1.0}, "rope_base is 1.0, but must be a number, more than 1.0."),
        ({"attention": "flash"}, "attention is 'flash', but must be one of explicit, fused."),
        ({"attention_window": -1}, "attention_window is -1, but must be a whole number, 0 or more."),
        ({"qk_norm": "yes"}, "qk_norm is 'yes', but must be true or false."),
        ({"qkv_bias": 1}, "qkv_bias is 1, but must be true or false."),
        ({"bias": None}, "bias is None, but must be true or false."),
        ({"tied_head": 0}, "tied_head is 0, but must be true or false."),
        ({"embedding_dropout": 1.0}, "embedding_dropout is 1.0, but must be a number, 0.0 or more, less than 1.0."),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1, but must be a number, 0.0 or more, less than 1.0."),
        ({"residual_dropout": 1}, "residual_dropout is 1, but must be a number, 0.0 or more, less than 1.0."),
        ({"init_std": 0}, "init_std is 0, but must be a number, more than 0.0."),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_allowed_is_refused_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError) as refusal:
        ModelConfig(**(TINY | settings))
    assert str(refusal.value) == sentence


def test_every_field_refuses_something() -> None:
    """No field takes any value at all, e.g. an object that is nothing of the kind."""
    for field in ModelConfig.fields():
        with pytest.raises(SettingError, match=f"^{field.name} is "):
            ModelConfig.from_dict({field.name: [object]})


def test_head_dim_may_be_odd_where_nothing_is_turned() -> None:
    for positions in ("learned", "none"):
        assert watch(decoder(head_dim=5, positions=positions), text())["layers.0.attention.q"].size(-1) == 5
