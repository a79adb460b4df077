"""The loss, and the gradient of one batch in as many micro-batches as memory asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lightwell.batches.batch import IGNORE, Batch
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.training.hardware.device import compute_dtype
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.update.streams import stream_seed

HeadLoss = Callable[[Decoder, Tensor, Tensor], Tensor]


def compiled_summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return F.cross_entropy's sum for compiled code: the same loss, and the same gradient in half the time."""
    loss: Tensor = _CompiledSummedLoss.apply(logits.flatten(0, -2), targets.flatten())  # type: ignore[no-untyped-call]
    return loss


class _CompiledSummedLoss(torch.autograd.Function):
    """The gradient of a target's -ln p by its logits is p, less 1 at the target.

    What the compiler makes of F.cross_entropy compares every logit's place with its target's; here the 1 is taken off
    in the one place where it belongs.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        counted = (targets != IGNORE).unsqueeze(1)  # (N, 1)
        places = targets.clamp(min=0).unsqueeze(1)  # (N, 1)
        log_sum = logits.float().logsumexp(-1, keepdim=True)  # (N, 1)
        ctx.save_for_backward(logits, log_sum, places, counted)
        return ((log_sum - logits.gather(1, places).float()) * counted).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        logits, log_sum, places, counted = ctx.saved_tensors
        scale = counted * gradient  # (N, 1)
        at_target = (logits.gather(1, places).float() - log_sum).exp() - 1.0  # (N, 1)
        dense = ((logits.float() - log_sum).exp() * scale).to(logits.dtype)  # (N, V)
        return dense.scatter(1, places, (at_target * scale).to(logits.dtype)), None


def head_loss(model: Decoder, x: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy in nats, summed over the counted targets, in fp32: x (..., D), targets (...)."""
    logits = model.head(x)  # (..., V)
    if torch.compiler.is_compiling():
        return compiled_summed_loss(logits, targets)
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="sum")


class TrainedLoss(nn.Module):
    """The model with its loss as one module, tokens in and the summed loss out: what several processes share."""

    def __init__(self, model: Decoder, head_loss: HeadLoss, precision: str, tap: Tap = passthrough) -> None:
        """Take the function above or its compiled form as `head_loss`; intermediates go through `tap`."""
        super().__init__()
        self.model = model
        self._head_loss = head_loss
        self._dtype = compute_dtype(precision)
        self._tap = tap

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        """(B, T) each -> ()."""
        x = self.model.hidden(inputs, documents=documents, dtype=self._dtype, tap=self._tap)
        return self._head_loss(self.model, x, targets)


def accumulate_gradients(
    loss_module: nn.Module,
    batch: Batch,
    *,
    micro_batch_size: int,
    seed: int,
    step: int,
    group: ProcessGroup | None = None,
    rows: slice | None = None,
    first: int | None = None,
) -> float:
    """Add the gradient of the batch's mean loss to the parameters; return that loss, in nats per counted token.

    Each micro-batch's sum is divided by the counted tokens of the full batch, so that k micro-batches of b give the
    gradient of one batch of k*b also where they count unequal numbers of tokens (law 7), and however many processes
    share the batch. The global generator, which dropout draws from, is seeded anew for each micro-batch: the masks
    follow from (seed, step, micro-batch) alone, as long as each process's rows are full micro-batches.

    loss_module: a TrainedLoss, or torch's wrapper of one, which sums gradients over the processes of `group` with the
    last micro-batch and divides them by their number.
    rows: the rows of the batch that count, by default those of this process; the loss is then their share of the mean.
    first: the number of their first micro-batch among all of the batch.
    """
    group = group or ProcessGroup()
    counted = batch.counted
    rows = rows or group.rows(len(batch.inputs))
    if first is None:
        first = rows.start // micro_batch_size if micro_batch_size else group.rank
    micro_batches = batch.rows(rows).split(micro_batch_size)
    total = 0.0
    for index, micro in enumerate(seeded(micro_batches, first, seed=seed, step=step, device=group.device)):
        with sync_gradients_on_last(loss_module, last=index == len(micro_batches) - 1):
            loss = loss_module(micro.inputs, micro.targets, micro.documents) / counted
            (loss * group.size).backward()
        total += loss.item()
    return group.all_reduce_sum([total])[0]


def seeded(
    micro_batches: Sequence[Batch], first: int, *, seed: int, step: int, device: torch.device
) -> Iterator[Batch]:
    """Yield each micro-batch on the device, numbered from `first`, with the generator seeded for its dropout."""
    for number, micro in enumerate(micro_batches, first):
        torch.manual_seed(stream_seed(seed, "dropout", step, number))
        yield micro.to(device)


def sync_gradients_on_last(loss_module: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Let the gradients of all but the last micro-batch stay with the process, to be summed with the last one's.

    With FSDP2, too: until then a process holds full gradients, in memory, for less to be sent.
    """
    set_sync = (
        getattr(loss_module.model, "set_requires_gradient_sync", None) if isinstance(loss_module, TrainedLoss) else None
    )
    if callable(set_sync):
        set_sync(last)
    wait: AbstractContextManager[None] = (
        loss_module.no_sync() if isinstance(loss_module, DistributedDataParallel) and not last else nullcontext()
    )
    return wait
