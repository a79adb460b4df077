"""The process group that trains one model: which process is the main one, what all agree on, how a batch is shared.

torchrun starts the processes and sets rank and world size in the environment. Each learns from its rows of every batch;
torch's DistributedDataParallel sums the gradients, so that all hold the same weights at every step. The main process
(rank 0) alone scores, writes samples, saves and speaks. A process that was started by itself is a group of one, and
waits for no other.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from lightwell.errors import LeftAloneError, SettingError

CPU = torch.device("cpu")
BROKEN = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "ncclRemoteError")
"""What gloo and nccl say of an exchange with a process that is no longer there."""

leaves_at_once = False
"""Whether this process ends, by os._exit, when its training has: then the exchange is not taken apart before."""


@dataclass(frozen=True)
class ProcessGroup:
    """One process's view of the group: its rank, the number of processes, and how they exchange numbers."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """Where what is exchanged lies: the CPU for gloo, a GPU for nccl."""

    @property
    def is_main(self) -> bool:
        """Return whether this is the process that scores, saves and speaks."""
        return self.rank == 0

    @property
    def is_local_main(self) -> bool:
        """Return whether this is the main process of its machine, which does what need be done only once on each."""
        return self.size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    def rows(self, batch_size: int) -> slice:
        """Return this rank's rows of a batch; shares differ by one row at most, and together they are the batch."""
        return slice(self.rank * batch_size // self.size, (self.rank + 1) * batch_size // self.size)

    def all_reduce_sum(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums of all processes' numbers, place by place; every process gets the same."""
        return self._exchange(list(numbers), dist.ReduceOp.SUM)

    def all_reduce_any(self, flags: Sequence[bool]) -> list[bool]:
        """Return, place by place, whether the flag is true in one process at least."""
        return [value > 0 for value in self._exchange([float(flag) for flag in flags], dist.ReduceOp.MAX)]

    def broadcast(self, numbers: Sequence[float]) -> list[float]:
        """Return the main process's numbers, in every process."""
        return self.all_reduce_sum([number if self.is_main else 0.0 for number in numbers])

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_reduce_sum([0.0])

    def _exchange(self, numbers: list[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()


@contextmanager
def init_distributed(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the process group that torchrun started this process in, for as long as it trains.

    Raises:
        SettingError: several processes on a device that they cannot share.
        LeftAloneError: another process has ended.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(device=device)
        return
    if device.type not in ("cpu", "cuda"):
        raise SettingError(f"device is {device.type}, on which one process trains at a time; use --device cpu.")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        group = ProcessGroup(dist.get_rank(), size, device)
        yield group
        group.barrier()  # nobody takes the exchange apart while another is still in it
    except RuntimeError as error:
        if any(words in str(error) for words in BROKEN):
            raise LeftAloneError("Another process of the group has ended.") from None
        raise
    finally:
        # With torch 2.13, a process that had trained with fsdp was sometimes aborted when it was taken apart
        # ("terminate called without an active exception"); less often where what still holds it goes first.
        if not leaves_at_once:
            gc.collect()
            dist.destroy_process_group()
