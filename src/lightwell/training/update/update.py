"""One update of the weights: the gradient of a batch, its norm checked and clipped, a step of the optimizers.

Every training goes through here: a run's (loop.py), and those of the lab (lab/experiments/trial.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightwell.batches.batch import Batch
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.processes.sharded_tensors import full_tensor, local
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update.loss import accumulate_gradients
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.out_of_memory import is_out_of_memory
from lightwell.training.update.reproducible import tree_gradients
from lightwell.training.update.schedule import learning_rate_factor


@dataclass(frozen=True)
class UpdateResult:
    """What an update has read of its batch, and whether the weights have moved."""

    loss: float
    """The batch's mean loss before the update, in nats per counted token."""
    grad_norm: float
    """The norm of its gradient, before clipping."""
    learning_rate_factor: float
    """The share of the peak learning rate that the update takes."""

    @property
    def is_finite(self) -> bool:
        """Return whether loss and gradient are; if not, the weights are as before, and the gradient is still there."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def update(
    loss_module: nn.Module,
    optimizers: Optimizers,
    batch: Batch,
    config: TrainConfig,
    *,
    micro_batch_size: int,
    seed: int,
    step: int,
    group: ProcessGroup | None = None,
    smaller: Callable[[], int] | None = None,
) -> UpdateResult:
    """Train `loss_module` on a batch, as update `step` (0 ... steps - 1) of a training of config.steps.

    An update whose loss or gradient is not finite is left out: see `UpdateResult.is_finite`.

    seed: of the dropout. smaller: what gives the micro-batch size to try next when memory runs out, or raises; the
    batch's gradient is then the same (law 7). Without it the allocator's error is raised.
    """
    gradients = tree_gradients if config.reproducible else accumulate_gradients
    while True:
        try:
            loss = gradients(loss_module, batch, micro_batch_size=micro_batch_size, seed=seed, step=step, group=group)
            break
        except (RuntimeError, MemoryError) as error:
            if smaller is None or not is_out_of_memory(error):
                raise
        # Outside of the handler, which would keep everything alive that the failed attempt had made.
        optimizers.zero_grad()
        micro_batch_size = smaller()
    result = apply_gradients(list(loss_module.parameters()), optimizers, config, step=step, loss=loss)
    if result.is_finite:
        optimizers.zero_grad()
    return result


def apply_gradients(
    parameters: list[nn.Parameter], optimizers: Optimizers, config: TrainConfig, *, step: int, loss: float
) -> UpdateResult:
    """Clip the gradients that are there and move the weights, unless the loss or a gradient is not finite."""
    norm = gradient_norm(parameters)
    factor = learning_rate_factor(step, config.steps, config)
    result = UpdateResult(loss, norm.item(), factor)
    if result.is_finite:
        if config.grad_clip:
            clip_gradients_(parameters, config.grad_clip, norm)
        optimizers.set_factor(factor)
        optimizers.step()
    return result


def gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """Return the Euclidean norm of all gradients together, the same in all processes."""
    return full_tensor(nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None]))


def clip_gradients_(parameters: list[nn.Parameter], max_norm: float, norm: Tensor) -> None:
    """Scale the gradients, which have that norm together, so that it is `max_norm` at most."""
    if norm > max_norm:
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        torch._foreach_mul_([local(weight.grad) for weight in parameters if weight.grad is not None], factor)
