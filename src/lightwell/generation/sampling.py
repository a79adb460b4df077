"""From logits to the next token: logits (B, V) -> probabilities (B, V) -> token ids (B,)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightwell.errors import RunError
from lightwell.generation.config import SamplingConfig

NOTHING = float("-inf")
"""The logit of a token that is left out: its probability is exactly 0."""


def next_token_probabilities(logits: Tensor, config: SamplingConfig, penalised: Tensor | None = None) -> Tensor:
    """Return the distribution that the next token of each row is drawn from.

    logits: (B, V), any float type. penalised: (B, V) bool, where repetition_penalty applies; None: nowhere.
    Returns (B, V) float32; each row sums to 1. The settings apply in this order, each to what the one before it left.

    Raises:
        RunError: a logit is not finite.
    """
    logits = logits.float()
    if not logits.isfinite().all():
        raise RunError("The model's logits are not finite numbers, so no next token follows; load another checkpoint.")
    if penalised is not None:
        logits = penalise_repetition(logits, penalised, config.repetition_penalty)
    if config.temperature < torch.finfo(torch.float32).tiny:  # a smaller divisor would be 0 in float32
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.size(-1)).float()
    # Shifting a row changes no probability, and keeps the division from overflowing.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / config.temperature
    if 0 < config.top_k < logits.size(-1):
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p > 0:
        logits = keep_min_p(logits, config.min_p)
    return logits.softmax(dim=-1)


def penalise_repetition(logits: Tensor, penalised: Tensor, penalty: float) -> Tensor:
    """Make seen tokens less likely (penalty > 1) whatever the sign of their logit (Keskar 2019, CTRL, section 4.1).

    An extreme penalty gives the largest number that there is, not infinity, so that probabilities stay numbers.
    """
    most = torch.finfo(logits.dtype).max
    changed = torch.where(logits > 0, logits / penalty, logits * penalty).clamp(-most, most)
    return torch.where(penalised, changed, logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Leave out all but the k largest logits; among equal ones at the border, exactly as many as make k stay."""
    values, tokens = logits.topk(k, dim=-1)  # (B, k)
    return torch.full_like(logits, NOTHING).scatter(-1, tokens, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probabilities reach p (Holtzman 2020, nucleus sampling)."""
    values, tokens = logits.sort(dim=-1, descending=True, stable=True)  # (B, V)
    probabilities = values.softmax(dim=-1)
    likelier = probabilities.cumsum(dim=-1) - probabilities  # (B, V) the probability of all tokens before each
    likelier[:, 0] = 0  # the likeliest token always stays
    return torch.full_like(logits, NOTHING).scatter(-1, tokens, values.masked_fill(likelier >= p, NOTHING))


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep the tokens that are at least `share` as likely as the likeliest one (Nguyen 2024, min-p sampling)."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(dim=-1, keepdim=True), NOTHING)


def sample(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a token for each row from probabilities (B, V), with that row's own (CPU) generator: (B,) int64, on the CPU.

    One uniform number u for each row; the token is the first whose cumulative probability exceeds u. Drawn on the CPU
    in double precision, so that a seed gives the same text in any batch and on any device (up to the logits' rounding).
    """
    cumulative = probabilities.to("cpu", torch.float64).cumsum(dim=-1)  # (B, V)
    uniform = torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    # Scaled by the total, which rounding leaves a little off 1, so that a token of probability 0 is never drawn.
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).squeeze(-1)
