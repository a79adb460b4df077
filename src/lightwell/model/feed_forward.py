"""The feed-forward branch: widen, apply the nonlinearity, narrow again; each token by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightwell.model.config import ModelConfig
from lightwell.model.layers import Linear
from lightwell.model.tap import Tap, passthrough


def squared_relu(x: Tensor) -> Tensor:
    """Return max(0, x)^2 (So 2021, "Primer"): as sparse as ReLU, smooth at 0."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh, as GPT-2 was trained (Hendrycks 2016, section 2)."""
    return gelu_by_sigmoid(x) if torch.compiler.is_compiling() else F.gelu(x, approximate="tanh")


def gelu_by_sigmoid(x: Tensor) -> Tensor:
    """GELU by tanh, written with a sigmoid since (1 + tanh z) / 2 = sigmoid(2z): the compiler makes a slow tanh."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    twice_z = 2 * math.sqrt(2 / math.pi) * wide * (1 + 0.044715 * wide * wide)
    return (wide * torch.sigmoid(twice_z)).to(x.dtype)


# The gated ones (Shazeer 2020) apply the nonlinearity to a gate that multiplies the hidden values.
NONLINEARITY: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": squared_relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "silu": F.silu,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "reglu": F.relu,
}


class FeedForward(nn.Module):
    """The branch: down(f(up(x))), or down(f(gate(x)) * up(x)) for the gated activations."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, hidden = config.d_model, config.ff_width
        self.nonlinearity = NONLINEARITY[config.activation]
        self.up = Linear(D, hidden, bias=config.bias)
        self.gate = Linear(D, hidden, bias=config.bias) if config.gated else None
        self.down = Linear(hidden, D, bias=config.bias)

    def forward(self, x: Tensor, tap: Tap = passthrough) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        hidden = tap("hidden", self.up(x))  # (B, T, hidden)
        if self.gate is None:
            activations = tap("activations", self.nonlinearity(hidden))
        else:
            activations = tap("activations", self.nonlinearity(tap("gate", self.gate(x))) * hidden)
        return tap("output", self.down(activations))
