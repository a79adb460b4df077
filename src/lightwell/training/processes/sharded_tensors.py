"""Tensors that are sharded, as FSDP2 leaves them: this rank's shard of one, and the full tensor.

Each rank of a process group that trains with parallel = "fsdp" holds some rows of every weight, gradient and moment.
torch calls such a tensor a DTensor; its shape is that of the full tensor. Everything here takes plain tensors, too,
which are their own full tensors. What decides is whether a tensor has a local shard: importing DTensor takes most of a
second, which no run on one process should wait for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def is_distributed(tensor: Tensor) -> bool:
    """Return whether the tensor is sharded, so that other ranks hold the rest of it."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor, as a plain tensor that shares its memory."""
    local: Tensor = _distributed(tensor).to_local() if is_distributed(tensor) else tensor
    return local


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor, as a plain one. Where it is sharded, all ranks must ask for it, and each gets a copy."""
    complete: Tensor = _distributed(tensor).full_tensor() if is_distributed(tensor) else tensor
    return complete


def local_rows(tensor: Tensor) -> slice:
    """Return which rows of the full tensor are in this rank's shard."""
    if not is_distributed(tensor):
        return slice(0, len(tensor))
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    distributed = _distributed(tensor)
    shape, offset = compute_local_shape_and_global_offset(
        distributed.shape, distributed.device_mesh, distributed.placements
    )
    return slice(offset[0], offset[0] + shape[0])


def shard_like(shard: Tensor, tensor: Tensor) -> Tensor:
    """Return a plain tensor of the shape of `local(tensor)` as this rank's shard of one that is sharded alike."""
    if not is_distributed(tensor):
        return shard
    from torch.distributed.tensor import DTensor

    model = _distributed(tensor)
    distributed: Tensor = DTensor.from_local(
        shard, model.device_mesh, model.placements, run_check=False, shape=model.shape, stride=model.stride()
    )
    return distributed


@torch.no_grad()
def copy_full_(values: Tensor, tensor: Tensor) -> None:
    """Copy a full tensor's values into `tensor`: into its shard, those that belong there."""
    local(tensor).copy_(values[local_rows(tensor)] if is_distributed(tensor) else values)


def local_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of memory that the shards of tensors take in this process."""
    return sum(local(tensor).nbytes for tensor in tensors)


def _distributed(tensor: Tensor) -> Any:
    return tensor
