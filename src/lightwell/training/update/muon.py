"""Muon: each matrix moves by its momentum made orthogonal, so that all its directions learn equally fast.

Jordan 2024 (kellerjordan.github.io/posts/muon). torch.optim.Muon takes one matrix after the other; here matrices of
equal shape are stacked and go through the same products together, and queries, keys and values, which share a weight
for speed, are taken apart: they are three maps, and making their stack orthogonal would couple them. Of sharded weights
(sharded_tensors.py) every rank makes the full directions, and moves the rows in its shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightwell.training.processes.sharded_tensors import full_tensor, local, local_rows, shard_like

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's: they bring singular values between 0.002 and 1 into 0.68 ... 1.2 in five rounds, fast rather than exact."""
ROUNDS = 5


class Piece(NamedTuple):
    """Rows of a weight that are one matrix, e.g. those that make the queries."""

    weight: nn.Parameter
    rows: slice


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, times lr and sqrt(max(1, rows / columns)); decay apart, times lr.

    weights: the matrices. parts: for each of them, the rows of its parts in order, e.g. (128,), or (64, 64, 64) for
    queries, keys and values in one. dtype: what the orthogonal matrix is computed in; bf16 is precise enough (Jordan).
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        parts: Sequence[Sequence[int]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype
        self._stacks: dict[tuple[int, int], list[Piece]] = {}
        for weight, lengths in zip(weights, parts, strict=True):
            start = 0
            for length in lengths:
                piece = Piece(weight, slice(start, start + length))
                self._stacks.setdefault((length, weight.size(1)), []).append(piece)
                start += length

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weights from their gradients; those without one stay as they are. There are no closures here."""
        group = self.param_groups[0]
        updates = {
            id(weight): full_tensor(self._momentum(weight, group))
            for weight in group["params"]
            if weight.grad is not None
        }
        for (rows, columns), pieces in self._stacks.items():
            moving = [piece for piece in pieces if id(piece.weight) in updates]
            if not moving:
                continue
            stack = torch.stack([updates[id(weight)][part] for weight, part in moving])  # (pieces, rows, columns)
            directions = orthogonal(stack.to(self._dtype))
            scale = max(1.0, rows / columns) ** 0.5
            for (weight, part), direction in zip(moving, directions, strict=True):
                mine, own = self._local(weight, part)
                mine.mul_(1.0 - group["lr"] * group["weight_decay"])
                mine.add_(direction[own], alpha=-group["lr"] * scale)

    def _momentum(self, weight: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Return the mean gradient so far, looked ahead by one step (Nesterov)."""
        state = self.state[weight]
        assert weight.grad is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        gradient = local(weight.grad)
        mean = local(state["momentum_buffer"]).lerp_(gradient, 1.0 - group["momentum"])
        return shard_like(gradient.lerp(mean, group["momentum"]), weight)

    @staticmethod
    def _local(weight: nn.Parameter, part: slice) -> tuple[Tensor, slice]:
        """Return this rank's rows of one matrix in a weight, and which rows of that matrix these are."""
        here = local_rows(weight)
        first, last = max(part.start, here.start), max(part.start, here.start, min(part.stop, here.stop))
        return local(weight)[first - here.start : last - here.start], slice(first - part.start, last - part.start)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns) -> about U V^T of each matrix U S V^T, by Newton-Schulz iterations: products only."""
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # the square products are then of the smaller side
    x = x / (torch.linalg.matrix_norm(x.float(), keepdim=True).to(x.dtype) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
