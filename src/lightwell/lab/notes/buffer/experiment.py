"""Note 6, registering a buffer: what moves with a module, what is saved, and what a mask costs in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.notes.buffer.note import NOTE
from lightwell.lab.notes.buffer.pictures import draw
from lightwell.lab.notes.buffer.tensor_rows import tensor_table
from lightwell.lab.verdicts.verdict import Law
from lightwell.model.decoder import Decoder

CONTEXTS = (128, 256, 512, 1024)
LAYERS = 12
"""As many as GPT-2 small has."""


class MaskedScores(nn.Module):
    """Scores with a causal mask that is held in one of four ways, for nothing but showing the difference."""

    mask: Tensor

    def __init__(self, context_length: int, held: str) -> None:
        super().__init__()
        mask = torch.full((context_length, context_length), -math.inf).triu(1)
        if held == "plain attribute":
            self.mask = mask
        elif held != "none":
            self.register_buffer("mask", mask, persistent=held == "persistent buffer")
        self.project = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of x (B, T, 8): (B, T, T)."""
        scores: Tensor = self.project(x) @ x.transpose(1, 2)
        return scores + self.mask if hasattr(self, "mask") else scores


HELD = ("persistent buffer", "buffer", "plain attribute", "none")


def findings(context: ExperimentContext, trained: None) -> Findings:
    """Judge this model's tensors, the mismatch on the meta device, and the bytes of checkpoints; nothing is trained."""
    table = context.measure("table", lambda: [row.to_dict() for row in tensor_table(Decoder(context.config.model))])
    moved = context.measure("moved", lambda: {held: moved_to_meta(held) for held in HELD})
    sizes = context.measure("sizes", lambda: {held: [saved_bytes(T, held) for T in CONTEXTS] for held in HELD})
    cost = [
        (with_mask - without) / (T * T)
        for T, with_mask, without in zip(CONTEXTS, sizes["persistent buffer"], sizes["none"], strict=True)
    ]
    longer = context.measure("longer", lambda: {held: loads_longer(held) for held in HELD})
    own = [row for row in table if row["kind"] != "parameter"]
    in_file = sum(row["bytes"] for row in own if row["saved"])
    laws = [
        Law.fact("A registered mask moves with its module", moved["buffer"]["moved"], True),
        Law.fact("The module with the registered mask computes after it was moved", moved["buffer"]["computes"], True),
        Law.fact("A mask that is a plain attribute moves with its module", moved["plain attribute"]["moved"], False),
        Law.fact("The module with the plain one computes after it was moved", moved["plain attribute"]["computes"],
                 False),
        *(Law.near(f"Bytes of a persistent mask per T x T, T = {T}", each, 4, 4 * 256 / T**2)
          for T, each in zip(CONTEXTS, cost, strict=True)),
        Law.near("Bytes that a non-persistent mask adds to a checkpoint", added(sizes, "buffer"), 0, 0),
        Law.fact("A checkpoint with a persistent mask loads at twice the context", longer["persistent buffer"], False),
        Law.fact("A checkpoint with a non-persistent mask loads at twice the context", longer["buffer"], True),
        Law.near("Plain attributes among this model's tensors", sum(r["kind"] == "plain attribute" for r in own), 0, 0),
        Law.near("Bytes of this model's mask and rotations in its checkpoints", in_file, 0, 0),
    ]  # fmt: skip
    data = {"table": table, "moved": moved, "contexts": CONTEXTS, "layers": LAYERS, "sizes": sizes, "longer": longer}
    remarks = [f"A mask of {CONTEXTS[-1]} x {CONTEXTS[-1]} in each of {LAYERS} layers is "
               f"{LAYERS * added(sizes, 'persistent buffer') / 1e6:.1f} MB of every checkpoint."]  # fmt: skip
    return Findings(laws=laws, data=data, remarks=remarks)


def moved_to_meta(held: str) -> dict[str, Any]:
    """Return whether the mask went along to the "meta" device, which every machine has, and the module computes."""
    module = MaskedScores(4, held).to("meta")
    x = torch.empty(1, 4, 8, device="meta")
    try:
        module(x)
        computes, error = True, ""
    except (RuntimeError, NotImplementedError) as problem:
        computes, error = False, str(problem).splitlines()[0]
    return {"moved": hasattr(module, "mask") and module.mask.is_meta, "computes": computes, "error": error}


def saved_bytes(context_length: int, held: str) -> int:
    """Return bytes of the module's state_dict as a safetensors file."""
    return len(safetensors.torch.save(MaskedScores(context_length, held).state_dict()))


def added(sizes: Mapping[str, list[int]], held: str) -> int:
    """Return what holding the mask so adds to a checkpoint at the longest context."""
    return sizes[held][-1] - sizes["none"][-1]


def loads_longer(held: str) -> bool:
    """Return whether what was saved at one context length loads into a module of twice that."""
    try:
        MaskedScores(32, held).load_state_dict(MaskedScores(16, held).state_dict())
    except RuntimeError:
        return False
    return True


EXPERIMENT = Experiment(NOTE, lambda context: None, findings, draw)
