"""How sparse the hidden layer of the feed-forward is: exact zeros, values near zero, and units that are never active.

Read from the tap "activations", what the last projection is given, on the same held-out tokens each time. An exact zero
is a value that is 0.0 and nothing else; "near" is |x| below NEAR. A unit that is exactly 0 on every token is dead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightwell.batches.batch import IGNORE
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus
from lightwell.generation.generate import at_rest
from lightwell.model.decoder import Decoder
from lightwell.model.tap import recording
from lightwell.training.settings.config import RunConfig

NEAR = 1e-3
TOKENS = 4096
"""Held-out tokens that are read."""
EDGES = [round(-3.0 + 0.15 * i, 2) for i in range(41)]
"""The bins' edges in the histogram of what flows into the nonlinearity; what lies outside counts in the outermost."""


def probe_zeros(model: Decoder, corpus: Corpus, config: RunConfig) -> list[dict[str, Any]]:
    """Read a row of numbers for each layer, on the first held-out tokens."""
    activations, inflow = hidden_values(model, corpus)
    return [{**count_zeros(a), "inflow": histogram(x)} for a, x in zip(activations, inflow, strict=True)]


def count_zeros(activations: Tensor) -> dict[str, Any]:
    """Return shares of values, and the units that are never active; activations (N, hidden) of N tokens."""
    dead = (activations == 0.0).all(dim=0)  # (hidden,)
    return {
        "tokens": activations.size(0),
        "units": activations.size(1),
        "zero": float((activations == 0.0).double().mean()),
        "near": float((activations.abs() < NEAR).double().mean()),
        "negative": float((activations < 0.0).double().mean()),
        "lowest": float(activations.min()),
        "size": float(activations.double().square().mean().sqrt()),
        "dead": int(dead.sum()),
    }


def histogram(x: Tensor) -> list[float]:
    """Return the shares of values in the bins between EDGES."""
    inside = x.flatten().clamp(EDGES[0], EDGES[-1])
    counts = torch.histc(inside, bins=len(EDGES) - 1, min=EDGES[0], max=EDGES[-1])
    return (counts.double() / inside.numel()).tolist()


def hidden_values(model: Decoder, corpus: Corpus) -> tuple[list[Tensor], list[Tensor]]:
    """Return, layer by layer, what leaves the nonlinearity, times the gate, and what enters it: (N, hidden)."""
    layers = range(model.config.n_layers)
    activations: list[list[Tensor]] = [[] for _ in layers]
    inflow: list[list[Tensor]] = [[] for _ in layers]
    entering = "gate" if model.config.gated else "hidden"
    with at_rest(model):
        for batch in evaluation_batches(corpus.held_out, model.config.context_length, 32, max_tokens=TOKENS):
            counted = batch.targets != IGNORE  # (B, T), without padding
            values: dict[str, Tensor] = {}
            tap = recording(values, ".feed_forward.")
            model.hidden(batch.inputs, documents=batch.documents, dtype=torch.float32, tap=tap)
            for i in layers:
                activations[i].append(values[f"layers.{i}.feed_forward.activations"][counted])
                inflow[i].append(values[f"layers.{i}.feed_forward.{entering}"][counted])
    return [torch.cat(parts) for parts in activations], [torch.cat(parts) for parts in inflow]
