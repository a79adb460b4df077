"""The training loop: one function that says what a training run does, and one that takes a step of it."""

from __future__ import annotations

import time
from typing import Any

from lightwell.training.events.incidents import watch_loss
from lightwell.training.events.interrupt import Interrupt
from lightwell.training.events.milestones import evaluate_held_out, write_sample
from lightwell.training.events.non_finite import require_finite_weights, skip_update
from lightwell.training.events.out_of_memory import halve_micro_batch_size
from lightwell.training.events.saving import save
from lightwell.training.hardware.device import memory_bytes
from lightwell.training.job import Job
from lightwell.training.planning.deadline import may_change_steps
from lightwell.training.update.update import update


def train_loop(job: Job, interrupt: Interrupt) -> bool:
    """Train from `job.progress` to the end; return True when finished, False when a signal stopped it before.

    Evaluating, sampling, logging and saving only read: how often they happen changes the weights of no step (law 10).

    Raises:
        TrainingError: the loss or a gradient is not finite; it names the step and the layer.
        RunError: something could not be written; what was saved before is untouched.
    """
    progress = job.progress
    with job.writer:
        job.listener.begin(job.config.training.steps, progress.step)
        if progress.step == 0:
            evaluate_held_out(job)
        job.model.train()
        while progress.step < job.config.training.steps and not early_stop(job):
            record = train_step(job)
            update_steps(job)
            config, step = job.config.training, progress.step
            if job.group.is_main and every(config.log_every, step, config.steps):
                job.run.append_metric(record)
            job.listener.stepped(record)
            job.writer.check()

            # Decided once a step, and alike in all processes: a signal that comes later waits for the next step.
            is_interrupted = job.group.all_reduce_any([interrupt.requested])[0]
            evaluates = every(config.eval_every, step, config.steps)
            samples = every(config.sample_every, step, config.steps)
            saves = every(config.checkpoint_every, step, config.steps) or is_interrupted
            if evaluates or samples or saves:
                require_finite_weights(job)
            if evaluates:
                evaluate_held_out(job)
                is_best = progress.evaluations.best_step == step  # what the run will be loaded at
                saves = saves or is_best or early_stop(job)
                samples = samples or early_stop(job)
            if samples:
                write_sample(job)
            if evaluates or samples:  # which can take long: a signal that came meanwhile is answered in this step
                is_interrupted = job.group.all_reduce_any([interrupt.requested])[0]
            if saves or is_interrupted:
                save(job)
            if is_interrupted:
                break
    if early_stop(job):
        job.listener.say(
            f"Stopped early at step {progress.step}: {job.config.training.patience} evaluations without a new best; "
            f"the best was step {progress.evaluations.best_step}."
        )
    return progress.step >= job.config.training.steps or early_stop(job)


def train_step(job: Job) -> dict[str, Any]:
    """Update the weights once; return the step's record of metrics.

    Raises:
        TrainingError: the loss or a gradient is not finite, and is not to be skipped; the weights are as before.
    """
    config, progress = job.config.training, job.progress
    started = time.perf_counter()
    batch = job.loader.batch(progress.step)
    result = update(
        job.loss_module,
        job.optimizers,
        batch,
        config,
        micro_batch_size=job.config.batches.micro_batch_size,
        seed=config.seed,
        step=progress.step,
        group=job.group,
        smaller=lambda: halve_micro_batch_size(job),
    )
    if not result.is_finite:
        record = skip_update(job, batch)
        progress.seconds += time.perf_counter() - started
        return {**record, "seconds": progress.seconds}
    watch_loss(job, progress.step + 1, result.loss)

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


def update_steps(job: Job) -> None:
    """Fit the number of steps to the deadline while it is open; once it is not, write it down for good."""
    if job.deadline is None:
        return
    if may_change_steps(job.config, job.progress.step):
        job.config = job.deadline.update_steps(job.config, job.progress.step, job.progress.seconds)
    if not may_change_steps(job.config, job.progress.step):
        job.deadline = None
        job.run.write_config(job.config)
    job.listener.lengthened(job.config.training.steps)


def early_stop(job: Job) -> bool:
    """Return whether early stopping is on and the last `patience` evaluations brought no new best."""
    return 0 < job.config.training.patience <= job.progress.evaluations.since_best


def every(interval: int, step: int, steps: int) -> bool:
    """Return whether what happens every `interval` steps (0: only at the end) happens after this step."""
    return step == steps or (interval > 0 and step % interval == 0)
