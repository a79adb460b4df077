"""What each of several processes holds of a model that they train together, measured after two real updates.

    torchrun --standalone --nproc-per-node 4 -m lightwell.bench.held --preset gpt2-124m --parallel fsdp

A line of JSON from the first process: for every process, the bytes of its weights, gradients and moments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from cyclopts import Parameter
from torch import nn

from lightwell.batches.batch import Batch
from lightwell.bench.quality import as_command
from lightwell.model.config import ModelConfig
from lightwell.plain_json import plain_json
from lightwell.training.build import make_loss_module
from lightwell.training.hardware.device import resolve_device
from lightwell.training.processes.process_group import ProcessGroup, init_distributed
from lightwell.training.processes.sharded_tensors import local_bytes
from lightwell.training.settings.config import RunConfig, TrainConfig
from lightwell.training.settings.presets import preset
from lightwell.training.update.loss import accumulate_gradients
from lightwell.training.update.optimizers import Optimizers

TOKENS = 16
"""Tokens of each sequence: what is held does not depend on them."""


@dataclass(frozen=True)
class Held:
    """Bytes in one process, between two updates."""

    weights: int
    gradients: int
    moments: int


def measure(model_config: ModelConfig, training: TrainConfig, group: ProcessGroup) -> Held:
    """Build the model as a run would, and learn twice, so that gradients and moments are there."""
    model, loss_module = make_loss_module(RunConfig(model=model_config, training=training), group)
    optimizers = Optimizers(model, training)
    for step in range(2):
        optimizers.zero_grad()
        accumulate_gradients(
            loss_module, _batch(model_config, group), micro_batch_size=0, seed=0, step=step, group=group
        )
        optimizers.step()
    weights: list[nn.Parameter] = list(model.parameters())
    return Held(
        local_bytes(weights),
        local_bytes([weight.grad for weight in weights if weight.grad is not None]),
        local_bytes(list(optimizers.state_tensors().values())),
    )


def _batch(config: ModelConfig, group: ProcessGroup) -> Batch:
    """Return a sequence of random tokens for each process."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, config.vocab_size, (group.size, TOKENS + 1)))
    return Batch(ids[:, :-1], ids[:, 1:])


def main(
    *,
    preset_name: Annotated[str, Parameter(name="--preset", help="Whose model, and whose optimizer.")] = "gpt2-124m",
    parallel: Annotated[Literal["ddp", "fsdp"], Parameter(help="As in lightwell train.")] = "fsdp",
) -> None:
    """Measure what every process holds; started by torchrun."""
    config = preset(preset_name).with_values({"parallel": parallel, "precision": "fp32"})
    if not config.model.vocab_size:
        config = config.with_values({"vocab_size": 8192})
    with init_distributed(resolve_device(config.training.device)) as group:
        held = measure(config.model, config.training, group)
        mine = [0.0] * 3 * group.size
        mine[3 * group.rank : 3 * group.rank + 3] = map(float, asdict(held).values())
        everybody = group.all_reduce_sum(mine)
        if group.is_main:
            rows = [Held(*map(int, everybody[at : at + 3])) for at in range(0, len(everybody), 3)]
            parameters = config.model.parameter_count()
            print(plain_json({"parameters": parameters, "parallel": parallel, "held": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    as_command("held", main)
