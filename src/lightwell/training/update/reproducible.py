"""The same bits on any number of processes: a batch's gradient as a sum in an order that nobody's number changes.

Floating-point sums depend on their order, and who adds what to what usually depends on how many processes there are.
Here a batch is cut into leaves, the same ones always, and their gradients are summed along one binary tree:

    leaves   0   1   2   3   4   5   6   7       one process computes all of them, two half of them each, ...
              \\ /     \\ /     \\ /     \\ /
               +       +       +       +        within a process, as soon as both are there
                \\     /         \\     /
                   +               +            between processes: both exchange, and both add lower + upper
                    \\_____________/
                           +

Each leaf is computed by the same kernels on one thread, so that its bits do not depend on who computes it. It costs a
gradient of memory for each level of the tree, and the threads: a process uses one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightwell.batches.batch import Batch
from lightwell.errors import SettingError
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.update.loss import seeded

MOST_LEAVES = 8


def leaves_of(batch_size: int) -> int:
    """Into how many equal leaves a batch is cut: the largest power of two up to MOST_LEAVES that divides it."""
    leaves = MOST_LEAVES
    while batch_size % leaves:
        leaves //= 2
    return leaves


def refuse_uneven(batch_size: int, processes: int) -> None:
    """Make sure that so many processes can share the leaves.

    Raises:
        SettingError: they cannot; what is possible is said.
    """
    leaves = leaves_of(batch_size)
    if leaves % processes:
        possible = [str(number) for number in (1, 2, 4, 8) if leaves % number == 0]
        raise SettingError(
            f"{processes} processes cannot train reproducibly with batch_size {batch_size}; {', '.join(possible)} can."
        )


def tree_gradients(
    loss_module: nn.Module,
    batch: Batch,
    *,
    micro_batch_size: int,
    seed: int,
    step: int,
    group: ProcessGroup | None = None,
) -> float:
    """As `accumulate_gradients`, to the same bits on any number of processes. loss_module: an unwrapped TrainedLoss."""
    group = group or ProcessGroup()
    counted, size = batch.counted, len(batch.inputs)
    leaves = leaves_of(size)
    rows, mine = size // leaves, leaves // group.size
    losses, waiting = [0.0] * leaves, list[tuple[int, list[Tensor]]]()
    for leaf in range(group.rank * mine, (group.rank + 1) * mine):
        micro_batches = batch.part(slice(leaf * rows, (leaf + 1) * rows)).split(micro_batch_size)
        for micro in seeded(micro_batches, leaf * len(micro_batches), seed=seed, step=step, device=group.device):
            loss = loss_module(micro.inputs, micro.targets, micro.documents) / counted
            loss.backward()
            losses[leaf] += loss.item()
        level, gradients = 0, taken(loss_module)
        while waiting and waiting[-1][0] == level:  # its sibling is there: the left one first
            left = waiting.pop()[1]
            level, gradients = level + 1, [a.add_(b) for a, b in zip(left, gradients, strict=True)]
        waiting.append((level, gradients))
    ((_, gradients),) = waiting
    for parameter, gradient in zip(loss_module.parameters(), gradients, strict=True):
        parameter.grad = gradient
    sum_between(gradients, group)
    return sum(group.all_reduce_sum(losses))


def taken(loss_module: nn.Module) -> list[Tensor]:
    """Return the gradients of all parameters, which have none then; zeros where a parameter took no part."""
    gradients = []
    for parameter in loss_module.parameters():
        gradients.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return gradients


def sum_between(gradients: list[Tensor], group: ProcessGroup) -> None:
    """Add up the processes' gradients in place, level by level, each pair the lower plus the upper one."""
    distance = 1
    while distance < group.size:
        partner = group.rank ^ distance
        for gradient in gradients:
            others = torch.empty_like(gradient)
            for work in dist.batch_isend_irecv(
                [dist.P2POp(dist.isend, gradient, partner), dist.P2POp(dist.irecv, others, partner)]
            ):
                work.wait()
            gradient.add_(others)  # a + b and b + a have the same bits
        distance *= 2


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes on one thread: how a sum is split among threads would show in its bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
