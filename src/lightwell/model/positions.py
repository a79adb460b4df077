"""Rotary positions: queries and keys are turned by an angle that grows with their position (Su 2021, equation 34).

After the turn the dot product of a query and a key depends on their distance only. Dimension i is paired with
i + K/2, as Llama has it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """The angles' cosines and sines, (T, K) or (B, 1, T, K)."""

    cos: Tensor
    sin: Tensor


def rotation_table(context_length: int, head_dim: int, base: float) -> Rotation:
    """Cosines and sines for every position, (context_length, head_dim), fp32."""
    return rotations_at(torch.arange(context_length), head_dim, base)


def rotations_at(positions: Tensor, head_dim: int, base: float) -> Rotation:
    """Cosines and sines for positions (...), (..., head_dim), fp32; the angles are computed in fp64."""
    device = torch.device("cpu") if positions.device.type == "mps" else positions.device  # which has no fp64
    frequency = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim)  # (K/2,)
    angle = positions.to(device, torch.float64)[..., None] * frequency  # (..., K/2)
    angle = torch.cat((angle, angle), dim=-1)  # (..., K)
    return Rotation(angle.cos().float(), angle.sin().float())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of dimensions of x (B, H, T, K) by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * rotation.cos + torch.cat((-second, first), dim=-1) * rotation.sin
