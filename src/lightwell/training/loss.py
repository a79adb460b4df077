"""The loss, and the gradient of one batch in as many micro-batches as memory asks for."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lightwell.batches.batch import IGNORE, Batch
from lightwell.model.decoder import Decoder
from lightwell.training.device import compute_dtype
from lightwell.training.streams import stream_seed

HeadLoss = Callable[[Decoder, Tensor, Tensor], Tensor]


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the counted targets: logits (..., V), targets (...), in fp32."""
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORE, reduction="sum")


def head_loss(model: Decoder, x: Tensor, targets: Tensor) -> Tensor:
    """The summed loss from the end of the residual stream: x (B, T, D), targets (B, T)."""
    return summed_loss(model.head(x), targets)


def accumulate_gradients(
    model: Decoder,
    batch: Batch,
    *,
    micro_batch_size: int,
    device: torch.device,
    precision: str,
    seed: int,
    step: int,
    head_loss: HeadLoss = head_loss,
) -> float:
    """Add the gradient of the batch's mean loss to the parameters; return that loss, in nats per counted token.

    Each micro-batch's sum is divided by the counted tokens of the whole batch, so that k micro-batches of b give the
    gradient of one batch of k*b also where they count unequal numbers of tokens (law 7). The global generator, which
    dropout draws from, is seeded anew for each micro-batch: the masks follow from (seed, step, micro-batch) alone.
    head_loss: the function above, or its compiled form.
    """
    counted = batch.counted
    total = 0.0
    for index, micro in enumerate(batch.split(micro_batch_size)):
        torch.manual_seed(stream_seed(seed, "dropout", step, index))
        micro = micro.to(device)
        x = model.hidden(micro.inputs, documents=micro.documents, dtype=compute_dtype(precision))
        loss = head_loss(model, x, micro.targets) / counted
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total
