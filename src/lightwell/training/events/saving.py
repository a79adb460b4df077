"""A job into a checkpoint, and out of one again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightwell.training.checkpoints.checkpoint import (
    Checkpoint,
    begin_checkpoint,
    checkpoint_folder,
    prune,
    save_checkpoint,
)
from lightwell.training.checkpoints.files import Shard
from lightwell.training.job import Job, Progress
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.processes.sharded_tensors import full_tensor, is_distributed
from lightwell.training.runs.load import load_weights


def save(job: Job) -> None:
    """Take a snapshot of the job as it stands, and let it be written beside training; older checkpoints go after it.

    Of a sharded model, every process snapshots and writes a share of the tensors, each of them in full.

    Raises:
        RunError: an earlier checkpoint, or the configuration, could not be written; what there was before is untouched.
    """
    sharers = job.group if job.is_sharded else ProcessGroup()
    if not (sharers.size > 1 or job.group.is_main):
        return
    job.writer.wait()  # one snapshot at a time is enough memory
    run, step, best = job.run, job.progress.step, job.progress.evaluations.best_step
    keep, every = job.config.training.keep_checkpoints, job.config.training.keep_every
    if job.deadline is not None:  # resumed from here, the run has the number of steps that it has now
        run.write_config(job.config)
    if sharers.size > 1:
        if job.group.is_main:
            begin_checkpoint(run.checkpoints, step)
        job.group.barrier()  # the folder is there, and nobody still writes the one before
    weights = snapshot(dict(job.model.named_parameters()), sharers)
    optimizers = snapshot(job.optimizers.state_tensors(), sharers)
    state: dict[str, Any] = {
        "progress": job.progress.to_dict(),
        "config": job.config.to_dict(),
        "length_is_open": job.deadline is not None,
        "data": {"digest": job.corpus.digest, "sequences": step * job.config.batches.batch_size},
        # Each stream's state follows from the seed and the step (streams.py), so these two are all of it.
        "random": {"seed": job.config.training.seed, "step": step},
    }

    writer, shard = job.writer, Shard(sharers.rank, sharers.size)

    def write() -> None:
        if job.group.is_main:
            run.sync()  # before the checkpoint: of the records up to it, none may be missing
        if not writer.cancelled:
            save_checkpoint(
                run.checkpoints, step, weights, optimizers, state,
                shard=shard, given_up=lambda: writer.cancelled or writer.alone,
            )  # fmt: skip
        if job.group.is_main and not writer.cancelled:
            prune(run.checkpoints, keep, best, every, written=step)

    writer.write(write, lambda: job.listener.saved(checkpoint_folder(run.checkpoints, step)))


def snapshot(tensors: Mapping[str, Tensor], sharers: ProcessGroup) -> dict[str, Tensor]:
    """Return full copies, on the CPU, of this process's share of the tensors: all of them where nobody shares."""
    shares = [0] * sharers.size
    mine: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = full_tensor(tensor.detach())  # all ask, one keeps it
        keeper = shares.index(min(shares))
        shares[keeper] += complete.nbytes
        if keeper == sharers.rank:
            mine[name] = complete.to("cpu", copy=not is_distributed(tensor))
    return mine


def restore(job: Job, checkpoint: Checkpoint) -> None:
    """Put the job back to where a checkpoint was written."""
    load_weights(job.model, checkpoint.model)
    job.optimizers.load_state_tensors(checkpoint.training)
    job.progress = Progress.from_dict(checkpoint.state["progress"])
    tracker, scored = job.progress.evaluations, checkpoint.state["config"]["training"]["eval_tokens"]
    if not tracker.scored_tokens and scored != job.config.training.eval_tokens:
        tracker.best_loss = None  # an earlier version did not save how many tokens it had scored; it was another number
