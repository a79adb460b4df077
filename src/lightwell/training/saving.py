"""A job into a checkpoint, and out of one again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightwell.training.checkpoint import Checkpoint, checkpoint_folder, prune, save_checkpoint
from lightwell.training.load import load_weights

if TYPE_CHECKING:
    from lightwell.training.loop import Job


def save(job: Job) -> None:
    """Take a snapshot of the job as it stands, and let it be written beside training; older checkpoints go after it.

    Raises:
        RunError: an earlier checkpoint, or the configuration, could not be written; what there was before is untouched.
    """
    if not job.team.leads:
        return
    job.writer.wait()  # one snapshot at a time is enough memory
    run, step, best = job.run, job.progress.step, job.progress.best_step
    keep, every = job.config.training.keep_checkpoints, job.config.training.keep_every
    if job.deadline is not None:  # resumed from here, the run has the number of steps that it has now
        run.write_config(job.config)
    weights = {name: parameter.detach().to("cpu", copy=True) for name, parameter in job.model.named_parameters()}
    optimizers = {name: tensor.to("cpu", copy=True) for name, tensor in job.optimizers.state_tensors().items()}
    state: dict[str, Any] = {
        "progress": dict(vars(job.progress)),
        "config": job.config.to_dict(),
        "length_is_open": job.deadline is not None,
        "data": {"digest": job.corpus.digest, "sequences": step * job.config.batches.batch_size},
        # Each stream's state follows from the seed and the step (streams.py), so these two are all of it.
        "random": {"seed": job.config.training.seed, "step": step},
    }

    writer = job.writer

    def write() -> None:
        run.sync()  # before the checkpoint: of the records up to it, none may be missing
        if not writer.cancelled:
            save_checkpoint(run.checkpoints, step, weights, optimizers, state)
        if not writer.cancelled:
            prune(run.checkpoints, keep, best, every)

    writer.write(write, lambda: job.listener.saved(checkpoint_folder(run.checkpoints, step)))


def restore(job: Job, checkpoint: Checkpoint) -> None:
    """Put the job back to where a checkpoint was written."""
    from lightwell.training.loop import Progress

    load_weights(job.model, checkpoint.model)
    job.optimizers.load_state_tensors(checkpoint.training)
    job.progress = Progress(**checkpoint.state["progress"])
