"""Where a number stopped being finite: the first place in the order of the computation, by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lightwell.batches.batch import Batch
from lightwell.model.decoder import Decoder


@torch.no_grad()
def first_non_finite(model: Decoder, micro_batches: Iterable[Batch], dtype: torch.dtype | None = None) -> str:
    """Name the first NaN or infinity: a weight, else an intermediate of the forward pass, else a gradient.

    e.g. "the weight layers.0.attention.qkv.weight", "layers.2.attention.scores" or "the gradient of
    layers.1.feed_forward.down.weight"; "the loss" when all of these are finite. The forward pass is done again on
    each micro-batch, in `dtype` (see Decoder.forward) and the model's mode. Gradients are looked at in the order of the
    backward pass, from the head down, and must be as backward left them: clipping by a NaN norm makes all of them NaN.
    """
    parameters = list(model.named_parameters())
    for name, parameter in parameters:
        if not parameter.isfinite().all():
            return f"the weight {name}"
    with torch.random.fork_rng(devices=[]):  # looking must not shift the dropout of whatever follows
        for batch in micro_batches:
            place = _in_forward(model, batch, dtype)
            if place:
                return place
    for name, parameter in reversed(parameters):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "the loss"


def _in_forward(model: Decoder, batch: Batch, dtype: torch.dtype | None) -> str:
    """Return the first intermediate that is not finite, or nothing."""
    found: list[str] = []

    def look(name: str, value: Tensor) -> Tensor:
        # The masked scores are -inf where the mask is, by design; a NaN in them was in the scores before.
        by_design = name.endswith(".masked")
        if not found and not by_design and value.is_floating_point() and not value.isfinite().all():
            found.append(name)
        return value

    model(batch.inputs, documents=batch.documents, dtype=dtype, tap=look)
    return found[0] if found else ""
