"""The feed-forward and its nonlinearities: exact zeros, and gates that cost no more parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import TINY, V, decoder, text, watch
from lightwell.model.config import GATED, ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.model.feed_forward import NONLINEARITY, FeedForward, gelu_by_sigmoid

BY_DEFINITION: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(0.0, x),
    "relu2": lambda x: max(0.0, x) ** 2,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
BY_DEFINITION |= {"swiglu": BY_DEFINITION["silu"], "geglu": BY_DEFINITION["gelu"], "reglu": BY_DEFINITION["relu"]}


def test_the_nonlinearities_are_those_of_the_configuration() -> None:
    (choices,) = (field.allowed for field in ModelConfig.fields() if field.name == "activation")
    assert choices == "one of " + ", ".join(NONLINEARITY)
    assert BY_DEFINITION.keys() == NONLINEARITY.keys()


@pytest.mark.parametrize("name", NONLINEARITY)
def test_each_nonlinearity_is_its_definition(name: str) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    expected = torch.tensor([BY_DEFINITION[name](value) for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(NONLINEARITY[name](x), expected, atol=1e-12, rtol=1e-12)


def test_gelu_by_sigmoid_is_gelu_tanh_and_has_its_gradient() -> None:
    x = torch.linspace(-30, 30, 999, requires_grad=True)
    fast, readable = gelu_by_sigmoid(x), torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(fast, readable, atol=1e-6, rtol=1e-6)
    slopes = [torch.autograd.grad(value.sum(), x)[0] for value in (fast, readable)]
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-5)
    assert gelu_by_sigmoid(x.bfloat16()).dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NONLINEARITY)
def test_the_branch_is_its_formula(name: str, bias: bool) -> None:
    model = decoder(activation=name, bias=bias, n_layers=1)
    seen = watch(model, text())
    part = model.get_submodule("layers.0.feed_forward")
    assert isinstance(part, FeedForward)
    x, f = seen["layers.0.feed_forward.input"], NONLINEARITY[name]
    expected = f(part.up(x)) if part.gate is None else f(part.gate(x)) * part.up(x)
    torch.testing.assert_close(seen["layers.0.feed_forward.activations"], expected)
    torch.testing.assert_close(seen["layers.0.feed_forward.output"], part.down(expected))
    assert ("layers.0.feed_forward.gate" in seen) == (name in GATED)


@torch.no_grad()
@pytest.mark.parametrize("name", NONLINEARITY)
def test_about_half_of_relus_outputs_are_exactly_zero_at_initialisation(name: str) -> None:
    model = Decoder(ModelConfig(**(TINY | {"activation": name, "d_model": 96, "context_length": 64}))).eval()
    seen = watch(model, text(8, 64))
    found = [value for key, value in seen.items() if key.endswith("feed_forward.activations")]
    assert len(found) == 2
    for activations in found:
        zeros = (activations == 0).float().mean().item()
        if "relu" in name or name == "reglu":
            assert 0.45 < zeros < 0.55
        else:
            assert zeros < 0.001
        if name in ("relu", "relu2"):
            assert (activations >= 0).all()
        else:
            assert (activations < 0).any()


@given(st.integers(3, 4096))
def test_gated_activations_have_the_parameters_of_the_others(d_model: int) -> None:
    def parameters(activation: str) -> int:
        config = ModelConfig(vocab_size=V, d_model=d_model, n_heads=1, head_dim=2, activation=activation)  # type: ignore[arg-type]
        return (3 if config.gated else 2) * d_model * config.ff_width

    for activation in GATED:
        assert parameters(activation) == pytest.approx(parameters("relu"), rel=0.5 / (d_model / 3) + 1e-9)
        if d_model % 3 == 0:
            assert parameters(activation) == parameters("relu")


@pytest.mark.parametrize("activation", NONLINEARITY)
@torch.no_grad()
def test_the_narrowest_model_still_has_a_hidden_layer(activation: str) -> None:
    model = decoder(d_model=1, n_heads=1, head_dim=2, activation=activation)
    assert model.config.ff_width >= 4
    assert watch(model, text())["layers.0.feed_forward.activations"].size(-1) == model.config.ff_width
