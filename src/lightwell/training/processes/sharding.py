"""A model that is sharded over a process group: each rank has a shard of every weight, gradient and moment (FSDP2).

Before a block computes, its weights are gathered from all ranks; afterwards only the own shard stays. The gradients are
reduced over the ranks as they come, and each keeps its shard of the sum (Rajbhandari 2020, "ZeRO", stage 3; Zhao 2023,
"PyTorch FSDP"). So N processes hold a model about N times as large as one could (with Muon less: muon.py).
"""

from __future__ import annotations

import torch
from torch import nn

from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.processes.sharded_tensors import copy_full_


def shard(config: ModelConfig, seed: int, group: ProcessGroup) -> Decoder:
    """Return a new sharded model, with the weights that `Decoder(config, seed)` has.

    No process ever holds all of it: the modules are made without memory, and each weight is drawn, cut and forgotten.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(group.device.type, (group.size,))
    with torch.device("meta"):
        model = Decoder(config)
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    # What is outside the blocks (embeddings, last norm, head) is gathered for all of a pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for method in ("hidden", "head"):  # called by themselves, by the loss and by generation
        register_fsdp_forward_method(model, method)
    model.to_empty(device=group.device)
    model.make_buffers()
    for parameter, values in model.initial_weights(seed):
        copy_full_(values, parameter)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Return whether a model was made by `shard`.

    Its tensors do not tell: while a pass has gathered them, and after it where nothing reshards them, they are plain
    ones.
    """
    return hasattr(model, "reshard")
