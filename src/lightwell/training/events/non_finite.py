"""What happens where numbers overflow: the place is found and noted, and the run stops or leaves the update out."""

from __future__ import annotations

from typing import Any

import torch

from lightwell.batches.batch import Batch
from lightwell.errors import TrainingError
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.events.incidents import note
from lightwell.training.hardware.device import compute_dtype
from lightwell.training.job import Job
from lightwell.training.processes.sharded_tensors import local
from lightwell.training.update.compilation import eager
from lightwell.training.update.finite import first_non_finite
from lightwell.training.update.loss import seeded

MOST_SKIPPED = 10
"""Updates in a row that may be skipped: what lasts longer is no single bad batch."""


def skip_update(job: Job, batch: Batch) -> dict[str, Any]:
    """Leave out an update that is not finite, and note it; return its record of metrics, which has no loss.

    Raises:
        TrainingError: the run is to stop, or too many in a row were skipped.
    """
    progress, step = job.progress, job.progress.step + 1
    where = find_non_finite(job, batch)
    broken = where.startswith("the weight ")  # by the update before, which no skipping undoes
    note(job, step - 1 if broken and step > 1 else step, "non_finite", where=where)
    if broken or job.config.training.non_finite == "stop" or progress.skipped == MOST_SKIPPED:
        raise TrainingError(non_finite_sentence(job, step, where))
    job.optimizers.zero_grad()
    job.listener.say(f"Step {step} is not finite, first in {where}; it is left out, see incidents.jsonl.")
    progress.skipped += 1
    progress.step += 1
    return {"step": progress.step, "skipped": where, "tokens_seen": progress.tokens_seen}


def find_non_finite(job: Job, batch: Batch) -> str:
    """Return where in the model the first number that is not finite comes from, by name."""
    config = job.config.training
    micro_batches = batch.split(job.config.batches.micro_batch_size)
    again = seeded(micro_batches, 0, seed=config.seed, step=job.progress.step, device=job.device)  # the same masks
    with eager():
        return first_non_finite(job.model, again, compute_dtype(config.precision))


def require_finite_weights(job: Job) -> None:
    """Make sure, before the weights are scored, sampled or saved, that the update has not broken them.

    Raises:
        TrainingError: a weight is not finite; it is named.
    """
    broken = [not torch.isfinite(local(weight)).all() for weight in job.model.parameters()]
    for (name, _), flag in zip(job.model.named_parameters(), job.group.all_reduce_any(broken), strict=True):
        if flag:
            where = f"the weight {name}"
            note(job, max(1, job.progress.step), "non_finite", where=where)
            raise TrainingError(non_finite_sentence(job, job.progress.step, where))


def non_finite_sentence(job: Job, step: int, where: str) -> str:
    """Return what the user is told when numbers overflow in update number `step`: where it began, and what helps."""
    config = job.config.training
    job.writer.wait()  # what is being written will be there, too
    kept = checkpoint_steps(job.run.checkpoints)
    rate = f"learning_rate than {config.learning_rate:g}"
    if config.optimizer == "muon":
        rate += f", a lower muon_learning_rate than {config.muon_learning_rate:g}"
    return (
        f"Step {step} is not finite, first in {where}; "
        + (f"the checkpoint of step {kept[-1]} is kept. " if kept else "no checkpoint was saved yet. ")
        + f"Train again with a lower {rate}"
        + (", or with --precision fp32" if config.precision == "bf16" else "")
        + ("." if where.startswith("the weight ") else '; or resume with non_finite = "skip" in its config.toml.')
    )
