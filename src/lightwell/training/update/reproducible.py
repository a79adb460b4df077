"""A batch's gradient with the same bits on any number of processes: it is summed in one order, however many there are.

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

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightwell.batches.batch import Batch
from lightwell.errors import SettingError
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.update.loss import accumulate_gradients

MOST_LEAVES = 8


def number_of_leaves(batch_size: int) -> int:
    """Return into how many equal leaves a batch is cut: the largest power of two up to MOST_LEAVES that divides it."""
    leaves = MOST_LEAVES
    while batch_size % leaves:
        leaves //= 2
    return leaves


def refuse_uneven(batch_size: int, processes: int) -> None:
    """Make sure that so many processes can share the leaves.

    Raises:
        SettingError: they cannot; what is possible is said.
    """
    leaves = number_of_leaves(batch_size)
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
    """Do as `accumulate_gradients`, to the same bits on any number of processes; loss_module: not wrapped."""
    group = group or ProcessGroup()
    alone = ProcessGroup(device=group.device)
    leaves = number_of_leaves(len(batch.inputs))
    rows, mine = len(batch.inputs) // leaves, leaves // group.size
    micro_batches = -(-rows // micro_batch_size) if micro_batch_size else 1  # of a leaf
    losses = [0.0] * leaves

    def leaf_gradients() -> Iterator[list[Tensor]]:
        for leaf in range(group.rank * mine, (group.rank + 1) * mine):
            losses[leaf] = accumulate_gradients(
                loss_module, batch, micro_batch_size=micro_batch_size, seed=seed, step=step, group=alone,
                rows=slice(leaf * rows, (leaf + 1) * rows), first=leaf * micro_batches,
            )  # fmt: skip
            yield pop_gradients(loss_module)

    gradients = tree_sum(leaf_gradients())
    for parameter, gradient in zip(loss_module.parameters(), gradients, strict=True):
        parameter.grad = gradient
    sum_between(gradients, group)
    return sum(group.all_reduce_sum(losses))


def tree_sum(addends: Iterable[list[Tensor]]) -> list[Tensor]:
    """Return the sums, place by place, of 2^k lists of tensors, which are added in pairs of neighbours; it reuses them.

    Only k + 1 lists are held at a time, since each pair is added as soon as both are there.
    """
    waiting: list[tuple[int, list[Tensor]]] = []  # sums of 2^level addends, the level falling
    for tensors in addends:
        level = 0
        while waiting and waiting[-1][0] == level:  # its sibling is there: the left one first
            left = waiting.pop()[1]
            level, tensors = level + 1, [a.add_(b) for a, b in zip(left, tensors, strict=True)]
        waiting.append((level, tensors))
    ((_, total),) = waiting
    return total


def pop_gradients(loss_module: nn.Module) -> list[Tensor]:
    """Take the gradients of all parameters away and return them; zeros where a parameter took no part."""
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
    """Let torch compute on one thread: how a sum is split among threads would show in its bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
