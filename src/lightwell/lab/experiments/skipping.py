"""A change of the formula that leaves one of its steps out."""

from __future__ import annotations

from torch import Tensor

from lightwell.model.tap import Tap


def skipping(step: str, *, back_to: str) -> Tap:
    """In every layer, what had the name `back_to` passes on in place of `step`, which comes after it.

    The model's attention must be explicit; beside the fused one, a tap only watches.
    """
    seen: dict[str, Tensor] = {}

    def passing(name: str, value: Tensor) -> Tensor:
        layer, _, last = name.rpartition(".")
        if last == back_to:
            seen[layer] = value
        return seen.pop(layer) if last == step else value

    return passing
