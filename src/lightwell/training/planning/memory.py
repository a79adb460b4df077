"""How much memory a run will take, before it starts.

What is held between steps is counted: weights, gradients, the optimizer's state, and a checkpoint's snapshot of weights
and state. What a micro-batch keeps for its backward pass is counted in a pass over tensors that have shapes but no
memory. What is left, the working space of the backward pass and the process itself, was measured
(docs/reliability.md).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lightwell.model.decoder import Decoder
from lightwell.training.hardware.device import memory_bytes, random_state_kept, resolve_device
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss import TrainedLoss, head_loss

LIBRARIES = 130_000_000
"""Bytes that a process comes to hold with its first step, whatever the model: kernels that are loaded when needed."""
LOGIT = 6
"""Bytes for each logit of a micro-batch while the backward pass begins: its gradient, and the same in bf16."""
PASSING = 0.4
"""The share of the saved tensors' bytes that their gradients and what is freed late take beside them."""
STACKED = 24
"""Bytes for each number of a stack of matrices that Muon makes orthogonal."""
COMPILED = 0.5
"""The share of an eager block's saved tensors that a compiled one saves: the rest it computes again."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at its peak."""

    process: int
    """Python, torch and its kernels; on a GPU nothing, since they are elsewhere."""
    weights: int
    gradients: int
    moments: int
    """The optimizer's state."""
    snapshot: int
    """Copies of weights and moments while a checkpoint is written; on a GPU nothing, since they are elsewhere."""
    activations: int
    """Tensors saved for the backward pass of one micro-batch."""
    working: int
    """Memory beside them while the backward pass or the update goes on."""

    @property
    def total(self) -> int:
        """Return the sum of all."""
        held = self.weights + self.gradients + self.moments + self.snapshot
        return self.process + held + self.activations + self.working


def estimate_memory(config: RunConfig, processes: int = 1) -> Memory:
    """Return what one of so many processes that train this together will take; the vocabulary's size must be known."""
    model, device = config.model, resolve_device(config.training.device)
    shards = processes if config.training.parallel == "fsdp" else 1
    weights = 4 * model.parameter_count() // shards
    moments = moment_bytes(config) // shards
    rows = local_micro_batch_size(config, processes)
    share = COMPILED if config.training.compile == "on" else 1.0
    on_cpu = device.type == "cpu"
    activations = int(share * saved_bytes(config, rows))
    working = int(PASSING * activations) + LOGIT * rows * model.context_length * model.vocab_size
    working += gathered_bytes(config) if shards > 1 else 0
    return Memory(
        process=(_resident() + LIBRARIES) if on_cpu else 0,
        weights=weights,
        gradients=weights,
        moments=moments,
        snapshot=(weights + moments) if on_cpu else 0,
        activations=activations,
        working=max(working, update_bytes(config) - activations),  # the update comes when these are gone
    )


def local_micro_batch_size(config: RunConfig, processes: int = 1) -> int:
    """Return how many sequences one of so many processes takes through the model together, at most."""
    share = -(-config.batches.batch_size // processes)
    return min(config.batches.micro_batch_size or share, share)


def gathered_bytes(config: RunConfig) -> int:
    """Return bytes of what is gathered for a moment where several processes hold shards of a model (sharding.py).

    What is outside the blocks, its gradient, and three blocks: one that computes, the next one, and a gradient.
    """
    model = _without_memory(config)
    inside = sum(parameter.nbytes for parameter in model.layers.parameters())
    outside = sum(parameter.nbytes for parameter in model.parameters()) - inside
    return 2 * outside + 3 * inside // max(1, len(model.layers))


def update_bytes(config: RunConfig) -> int:
    """Return bytes that an update takes while it goes on: nothing for AdamW, whose kernel works in place.

    Muon has the momenta of all matrices at once, and of the largest stack of equal ones some copies beside them.
    """
    from lightwell.training.update.optimizers import is_block_matrix

    if config.training.optimizer != "muon":
        return 0
    stacks: dict[tuple[int, ...], int] = {}
    for name, tensor in _without_memory(config).named_parameters():
        if is_block_matrix(name, tensor):
            stacks[tuple(tensor.shape)] = stacks.get(tuple(tensor.shape), 0) + tensor.numel()
    return 4 * sum(stacks.values()) + STACKED * max(stacks.values(), default=0)


def moment_bytes(config: RunConfig) -> int:
    """Return bytes of the optimizer's state: two moments in fp32 and a count of steps, or one for a matrix of Muon."""
    from lightwell.training.update.optimizers import is_block_matrix

    muon = config.training.optimizer == "muon"
    parameters = _without_memory(config).named_parameters()
    return sum(
        4 * tensor.numel() if muon and is_block_matrix(name, tensor) else 8 * tensor.numel() + 4
        for name, tensor in parameters
    )


def saved_bytes(config: RunConfig, rows: int) -> int:
    """Return bytes that the forward pass of so many sequences saves for the backward pass, weights left out, eager.

    torch's fake tensors go through it: they choose the kernels that real ones would, and compute nothing.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    kept: dict[int, tuple[int, object]] = {}
    with FakeTensorMode(), random_state_kept(torch.device("cpu")):
        model = Decoder(config.model).train()
        weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = (storage.nbytes(), storage)  # kept alive, so that no other has its number
            return tensor

        tokens = torch.zeros(rows, config.model.context_length, dtype=torch.long)
        documents = None if config.batches.document_boundaries == "cross" else tokens.int()
        loss_module: nn.Module = TrainedLoss(model, head_loss, config.training.precision)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss_module(tokens, tokens, documents)
    return sum(size for size, _ in kept.values())


def _without_memory(config: RunConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(config.model)


def _resident() -> int:
    """Return bytes of memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not on Linux: its peak so far is the nearest
        return memory_bytes(torch.device("cpu"))
    return pages * os.sysconf("SC_PAGE_SIZE")
