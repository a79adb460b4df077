"""The small layers: projections and embeddings that the decoder itself initialises, and the norms."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lightwell.model.config import ModelConfig


class Linear(nn.Linear):
    """A projection without torch's own initialisation, which would draw from the global random stream for nothing."""

    def reset_parameters(self) -> None:
        """Leave the weights to `Decoder.initialise`."""


class Embedding(nn.Embedding):
    """A table of vectors without torch's own initialisation, for the same reason."""

    def reset_parameters(self) -> None:
        """Leave the weights to `Decoder.initialise`."""


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * gain (Zhang 2019), computed in fp32 also where autocast hands over bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the dtype of x."""
        return F.rms_norm(x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps).to(x.dtype)


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm before each branch and before the head, over D."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, eps=config.norm_epsilon)
    return nn.LayerNorm(config.d_model, eps=config.norm_epsilon, bias=config.norm_bias)
