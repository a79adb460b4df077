"""The small layers: projections and embeddings that the decoder itself initialises, and the norms."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lightwell.model.config import ModelConfig


class Linear(nn.Linear):
    """A projection in the precision of what it is given; its weights stay in theirs, and so do the gradients.

    It is without torch's own initialisation, which would draw from the global random stream for nothing.
    """

    def reset_parameters(self) -> None:
        """Leave the weights to `Decoder.initialise`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features), in the dtype of x."""
        return project(x, self.weight, self.bias)


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, computed in the dtype of x: bf16 products take half the time of fp32 ones where hardware has them."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class Embedding(nn.Embedding):
    """A table of vectors, without torch's own initialisation, as `Linear` is."""

    def reset_parameters(self) -> None:
        """Leave the weights to `Decoder.initialise`."""


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * gain (Zhang 2019), computed in the dtype of its gain: fp32 also where x is bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the dtype of x."""
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / sqrt(var(x) + eps) * gain + shift (Ba 2016), in the dtype of its gain, also for bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the dtype of x."""
        wide = x.to(self.weight.dtype)
        return F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps).to(x.dtype)


def make_norm(config: ModelConfig) -> nn.Module:
    """Return the norm before each branch and before the head, over D."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, eps=config.norm_epsilon)
    return LayerNorm(config.d_model, eps=config.norm_epsilon, bias=config.norm_bias)
