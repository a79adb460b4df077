"""Several processes that train one model: who leads, what all agree on, and how a batch is shared.

torchrun starts the processes and says in the environment who is who. Each learns from its rows of every batch; torch's
DistributedDataParallel sums the gradients, so that all hold the same weights at every step. The leader (rank 0) alone
scores, writes samples, saves and speaks. A process that was started by itself is a team of one, and waits for nobody.
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


@dataclass(frozen=True)
class Team:
    """This process among the others."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """Where what is exchanged lies: the processor for gloo, a GPU for nccl."""

    @property
    def leads(self) -> bool:
        """Whether this one scores, saves and speaks."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether it is the first on its machine, and does what need be done only once on each."""
        return self.size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    def rows(self, batch_size: int) -> slice:
        """Its rows of a batch; shares differ by one row at most, and together they are the batch."""
        return slice(self.rank * batch_size // self.size, (self.rank + 1) * batch_size // self.size)

    def total(self, number: float) -> float:
        """The sum of everybody's number, the same for all."""
        return self.together([number])[0]

    def anybody(self, flag: bool) -> bool:
        """Whether it is true for one of them, at least."""
        return self.anywhere([flag])[0]

    def anywhere(self, flags: Sequence[bool]) -> list[bool]:
        """Place by place, whether it is true for one of them, at least."""
        return [found > 0 for found in self._exchange([float(flag) for flag in flags], dist.ReduceOp.MAX)]

    def together(self, numbers: Sequence[float]) -> list[float]:
        """The sums of everybody's numbers, place by place."""
        return self._exchange(list(numbers), dist.ReduceOp.SUM)

    def from_leader(self, numbers: Sequence[float]) -> list[float]:
        """The leader's numbers, for all."""
        return self.together([number if self.leads else 0.0 for number in numbers])

    def wait(self) -> None:
        """Until all are here."""
        self.total(0.0)

    def _exchange(self, numbers: list[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, operation)
        return tensor.tolist()


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """The team that torchrun started this process in, for as long as it trains.

    Raises:
        SettingError: several processes on a device that they cannot share.
        LeftAloneError: another process has ended.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(device=device)
        return
    if device.type not in ("cpu", "cuda"):
        raise SettingError(f"device is {device.type}, on which one process trains at a time; use --device cpu.")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        team = Team(dist.get_rank(), size, device)
        yield team
        team.wait()  # nobody takes the exchange apart while another is still in it
    except RuntimeError as error:
        if any(words in str(error) for words in BROKEN):
            raise LeftAloneError("Another process of the team has ended.") from None
        raise
    finally:
        # What still holds the exchange goes first. With torch 2.13, one of three processes that had trained with fsdp
        # was aborted at its end ("terminate called without an active exception"); none in eighteen this way.
        gc.collect()
        dist.destroy_process_group()
