"""Small decoders with weights large enough that nothing they compute is near zero, and texts for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap

V, L = 37, 12
TINY: dict[str, Any] = {"vocab_size": V, "context_length": L, "n_layers": 2, "n_heads": 4, "d_model": 24}

# Every kind of attention that the model has; each is tested against the laws in both implementations.
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "learned positions": {"positions": "learned", "norm": "layernorm", "bias": True, "qkv_bias": True},
    "no positions": {"positions": "none", "qk_norm": False},
    "grouped heads": {"n_kv_heads": 2, "head_dim": 10},
    "one key head": {"n_kv_heads": 1, "activation": "swiglu", "tied_head": False},
    "sliding window": {"attention_window": 3},
}
IMPLEMENTATIONS = ("explicit", "fused")


def decoder(*, noise: float = 0.3, **settings: Any) -> Decoder:
    """Random weights with a standard deviation near `noise`, in evaluation mode."""
    return enliven(Decoder(ModelConfig(**(TINY | settings))), noise).eval()


def enliven(model: Decoder, noise: float = 0.3) -> Decoder:
    """Add noise to every parameter; what it is follows from the parameter's name and shape alone."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(sum(name.encode()))
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise)
    return model


def like(model: Decoder, **settings: Any) -> Decoder:
    """A model with the same weights and other settings, in evaluation mode."""
    other = Decoder(dataclasses.replace(model.config, **settings))
    other.load_state_dict(model.state_dict())
    return other.eval()


def text(B: int = 2, T: int = L, seed: int = 1, vocab_size: int = V) -> Tensor:
    """Random tokens, (B, T)."""
    return torch.randint(vocab_size, (B, T), generator=torch.Generator().manual_seed(seed))


def packed(B: int = 2, T: int = L) -> Tensor:
    """Document ids of three documents in each row, (B, T), cut at different places in different rows."""
    places = torch.arange(T).repeat(B, 1) + torch.arange(B)[:, None]
    return ((places >= 5).int() + (places >= 9).int()).int()


def watch(model: Decoder, tokens: Tensor, **others: Any) -> dict[str, Tensor]:
    """Every intermediate of one forward pass by name."""
    seen: dict[str, Tensor] = {}

    def record(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    model(tokens, tap=record, **others)
    return seen


def putting(name: str, replacement: Tensor) -> Tap:
    """A tap that lets everything through but one intermediate, which it replaces."""
    return lambda passing, value: replacement if passing == name else value
