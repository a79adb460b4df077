"""A change of the formula that leaves one of its steps out."""

from __future__ import annotations

from torch import Tensor

from lightwell.model.tap import Tap


def skipping(step: str, *, back_to: str) -> Tap:
    """Return a tap by which, in every layer, what had the name `back_to` passes on in place of `step` after it.

    Beside the fused attention the formula is computed, and flows on where a step is left out.
    """
    skipped: dict[str, Tensor] = {}

    def passing(name: str, value: Tensor) -> Tensor:
        layer, _, last = name.rpartition(".")
        if last == back_to:
            skipped[layer] = value
        return skipped.pop(layer) if last == step else value

    return passing
