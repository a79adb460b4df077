"""The training loop: one readable function, and the job that it works on."""

from __future__ import annotations

import time
from typing import Any

import torch

from lightwell.batches.batch import Batch
from lightwell.errors import TrainingError
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.events.incidents import MOST_SKIPPED, note, watch_loss
from lightwell.training.events.interrupt import Interrupt
from lightwell.training.events.milestones import evaluate_held_out, write_sample
from lightwell.training.events.out_of_memory import take_smaller
from lightwell.training.events.saving import save
from lightwell.training.hardware.device import compute_dtype, memory_bytes
from lightwell.training.job import Job
from lightwell.training.planning.deadline import is_open
from lightwell.training.processes.sharded_tensors import local
from lightwell.training.update.compilation import as_written
from lightwell.training.update.finite import first_non_finite
from lightwell.training.update.loss import seeded
from lightwell.training.update.update import update


def train_loop(job: Job, interrupt: Interrupt) -> bool:
    """Train from `job.progress` to the end; True when finished, False when a signal stopped it before.

    Evaluating, sampling, logging and saving only read: how often they happen never changes the weights (law 10).

    Raises:
        TrainingError: the loss or a gradient is not finite; it names the step and the layer.
        RunError: something could not be written; what was saved before is untouched.
    """
    with job.writer:
        return train_steps(job, interrupt)


def train_steps(job: Job, interrupt: Interrupt) -> bool:
    """Return the loop itself."""
    progress = job.progress
    job.listener.begin(job.config.training.steps, progress.step)
    if progress.step == 0:
        evaluate_in_time(job)
    job.model.train()
    while progress.step < job.config.training.steps and not tired(job):
        record = train_step(job)
        step = progress.step
        settle_length(job)
        config = job.config.training
        if job.group.is_main and due(step, config.log_every, config.steps):
            job.run.append_metric(record)
        job.listener.stepped(record)
        job.writer.check()

        if due(step, config.eval_every, config.steps):
            require_finite_weights(job)
            evaluate_in_time(job)
        if due(step, config.sample_every, config.steps) or tired(job):
            require_finite_weights(job)
            write_sample(job)
        # Asked once: a signal that comes while saving waits for the next step. All stop at the same one.
        stop = job.group.all_reduce_any([interrupt.requested])[0]
        best = progress.best_step == step  # what the run will be loaded at
        if due(step, config.checkpoint_every, config.steps) or best or tired(job) or stop:
            require_finite_weights(job)
            save(job)
        if stop:
            break
    if tired(job):
        job.listener.say(
            f"Stopped early at step {progress.step}: {job.config.training.patience} evaluations without a new best; "
            f"the best was step {progress.best_step}."
        )
    return progress.step >= job.config.training.steps or tired(job)


def evaluate_in_time(job: Job) -> None:
    """Score the held-out tokens; a deadline hears how long that takes."""
    started = time.perf_counter()
    evaluate_held_out(job)
    if job.deadline is not None:
        job.deadline.evaluation = time.perf_counter() - started
        job.deadline.evaluated += job.deadline.evaluation


def settle_length(job: Job) -> None:
    """Fit the number of steps to the deadline while it is open; once it is not, write it down for good."""
    if job.deadline is None:
        return
    if is_open(job.config, job.progress.step):
        job.config = job.deadline.settle(job.config, job.progress.step, job.progress.seconds)
    if not is_open(job.config, job.progress.step):
        job.deadline = None
        job.run.write_config(job.config)
    job.listener.lengthened(job.config.training.steps)


def train_step(job: Job) -> dict[str, Any]:
    """One update: the gradient of a batch, its norm clipped, the optimizer's step; returns its record of metrics.

    Raises:
        TrainingError: the loss or a gradient is not finite, and is not to be skipped; the weights are as before.
    """
    config, progress = job.config.training, job.progress
    started = time.perf_counter()
    step = progress.step
    batch = job.loader.batch(step)
    result = update(
        job.loss_module,
        job.optimizers,
        batch,
        config,
        micro_batch_size=job.config.batches.micro_batch_size,
        seed=config.seed,
        step=step,
        group=job.group,
        smaller=lambda: take_smaller(job),
    )
    if not result.is_finite:
        return skip(job, batch, started)
    watch_loss(job, step + 1, result.loss)

    elapsed = time.perf_counter() - started
    progress.skipped = 0
    progress.step += 1
    progress.tokens_seen += batch.counted
    progress.seconds += elapsed
    return {
        "step": progress.step,
        "loss": result.loss,
        "learning_rate": config.learning_rate * result.learning_rate_factor,
        "grad_norm": result.grad_norm,
        "tokens_per_second": batch.counted / elapsed,
        "tokens_seen": progress.tokens_seen,
        "memory_bytes": memory_bytes(job.device),
        "seconds": progress.seconds,
    }


def skip(job: Job, batch: Batch, started: float) -> dict[str, Any]:
    """Leave out an update that is not finite, and note it; returns a record of metrics without a loss.

    Raises:
        TrainingError: the run is to stop, or too many in a row were skipped.
    """
    progress, step = job.progress, job.progress.step + 1
    where = origin(job, batch)
    broken = where.startswith("the weight ")  # by the update before, which no skipping undoes
    note(job, step - 1 if broken and step > 1 else step, "non_finite", where=where)
    if broken or job.config.training.non_finite == "stop" or progress.skipped == MOST_SKIPPED:
        raise TrainingError(non_finite_sentence(job, step, where))
    job.optimizers.zero_grad()
    job.listener.say(f"Step {step} is not finite, first in {where}; it is left out, see incidents.jsonl.")
    progress.skipped += 1
    progress.step += 1
    progress.seconds += time.perf_counter() - started
    return {"step": progress.step, "skipped": where, "tokens_seen": progress.tokens_seen, "seconds": progress.seconds}


def tired(job: Job) -> bool:
    """Return whether early stopping is on and the last `patience` evaluations brought no new best."""
    return 0 < job.config.training.patience <= job.progress.since_best


def due(step: int, every: int, steps: int) -> bool:
    """Return whether something that happens every `every` steps (0: only at the end) happens after this step."""
    return step == steps or (every > 0 and step % every == 0)


def origin(job: Job, batch: Batch) -> str:
    """Return where in the model the first number that is not finite comes from."""
    config = job.config.training
    micro_batches = batch.split(job.config.batches.micro_batch_size)
    again = seeded(micro_batches, 0, seed=config.seed, step=job.progress.step, device=job.device)  # the same masks
    with as_written():
        return first_non_finite(job.model, again, compute_dtype(config.precision))


def require_finite_weights(job: Job) -> None:
    """Make sure, before the weights are scored, sampled or saved, that the update has not broken them.

    Raises:
        TrainingError: a weight is not finite; it is named.
    """
    broken = [not torch.isfinite(local(weight)).all() for weight in job.model.parameters()]
    for (name, _), flag in zip(job.model.named_parameters(), job.group.all_reduce_any(broken), strict=True):
        if flag:
            note(job, max(1, job.progress.step), "non_finite", where=f"the weight {name}")
            raise TrainingError(non_finite_sentence(job, job.progress.step, name))


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
