"""Starting, planning and resuming runs: what the command line and Python both call."""

from __future__ import annotations

import math
import os
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus, prepare
from lightwell.errors import RunError, SettingError, TextError
from lightwell.model.decoder import Decoder
from lightwell.training.checkpoints.checkpoint import checkpoint_steps, newest_checkpoint, set_aside_after
from lightwell.training.events.interrupt import Interrupt
from lightwell.training.events.saving import restore
from lightwell.training.hardware.device import (
    available_memory,
    freed_memory_kept,
    random_state_kept,
    resolve_device,
    resolve_precision,
)
from lightwell.training.job import Job
from lightwell.training.loop import train_loop
from lightwell.training.planning.budget import choose, fit
from lightwell.training.planning.deadline import Deadline, ending_seconds
from lightwell.training.planning.memory import estimate_memory, rows_at_once
from lightwell.training.planning.plan import Plan, flops_per_step, make_plan, measure
from lightwell.training.processes.process_group import ProcessGroup, init_distributed
from lightwell.training.processes.sharding import shard
from lightwell.training.runs.evaluation import true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.lock import lock
from lightwell.training.runs.plot import draw_run
from lightwell.training.runs.references import measure_references
from lightwell.training.runs.run import Run, new_run_path, refuse_to_overwrite
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.compilation import compile_for_training, refuse_compile, resolve_compile
from lightwell.training.update.loss import TrainedLoss, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.reproducible import one_thread, refuse_uneven
from lightwell.training.update.schedule import stable_steps, warmup_length
from lightwell.training.update.streams import stream_seed

MANY_EPOCHS = 40
"""By the law of Muennighoff 2023 (R* = 15.4), 40 passes are worth 15 of fresh text, and no number of them 17."""

ONLY_WATCHING = frozenset(
    {
        "device",
        "eval_every",
        "eval_tokens",
        "sample_every",
        "sample_prompt",
        "checkpoint_every",
        "keep_checkpoints",
        "keep_every",
        "non_finite",  # up to a number that is not finite, both values are the same run
        "log_every",
        "patience",
        # As the number of processes does, these show in the rounding of sums, and in how dropout's masks fall.
        "micro_batch_size",
        "parallel",
    }
)
"""Settings that may be edited before a run is resumed: they do not change what it computes (laws 7 and 10)."""


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
    started: float | None = None,
) -> Run:
    """Train a model and save it as a run.

    started: since when a length in minutes counts, in time.monotonic(); now by default.

    Raises:
        LightwellError: anything foreseeable: the text, a setting, the run folder, the disk, numbers that overflow.
    """
    listener = listener or Listener()
    ends = (time.monotonic() if started is None else started) + 60 * config.training.minutes
    out = out or new_run_path(config.text)
    device = resolve_device(config.training.device)
    refuse_to_overwrite(out, force)
    refuse_compile(config.training.compile, device)  # before the text is read
    with init_distributed(device) as group:
        group.barrier()  # nobody has looked for a free name after the leader took it
        if group.is_main:
            refuse_process_group(config, group)
            corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
            timed = config.training.minutes > 0
            config, loader = resolve(config, corpus, listener, ends)
            warn_of_memory(config, device, listener, group.size)
            run = Run.create(out, config, corpus.tokenizer, force=force)
            group.barrier()
        else:
            group.barrier()
            run = Run(out)
            config, timed = run.config, False
            corpus = prepare(
                config.text, config.model.vocab_size, tokenizer=run.tokenizer, checked=not group.first_here
            )
            loader = make_loader(config, corpus)
        with lock(run.path) if group.is_main else nullcontext():
            job = make_job(config, corpus, loader, run, listener, group)
            job.deadline = Deadline(ends, ending_seconds(config.model.parameter_count())) if timed else None
            return carry_out(job)


def refuse_process_group(config: RunConfig, group: ProcessGroup) -> None:
    """Make sure that so many processes can do this.

    Raises:
        SettingError: fewer sequences than processes, or a length in minutes, whose pace is that of one process.
    """
    if config.batches.batch_size < group.size:
        raise SettingError(
            f"batch_size is {config.batches.batch_size}, too few for {group.size} processes; each needs a sequence."
        )
    if config.training.reproducible:
        refuse_uneven(config.batches.batch_size, group.size)
        if config.training.parallel == "fsdp" and group.size > 1:
            raise SettingError("reproducible sums whole gradients in each process; leave --parallel fsdp out.")
    if group.size > 1 and config.training.minutes:
        raise SettingError("minutes is a length for one process; give --steps or --epochs to several.")


def resume(path: Path, *, listener: Listener | None = None) -> Run:
    """Go on with a run exactly where its newest good checkpoint was written; a finished run is left as it is.

    Raises:
        RunError: no such run, or its text or tokenizer is no longer what it was trained on.
    """
    listener = listener or Listener()
    run = Run(path)
    with (
        init_distributed(resolve_device(run.config.training.device)) as group,
        lock(run.path) if group.is_main else nullcontext(),
    ):
        refuse_process_group(run.config, group)
        return carry_out(job_to_resume(run, listener, group))


def job_to_resume(run: Run, listener: Listener, group: ProcessGroup) -> Job:
    """Return the run's job as its newest good checkpoint has it, and its records cut off there."""
    config = run.config
    try:
        corpus = prepare(
            config.text,
            config.model.vocab_size,
            tokenizer=run.tokenizer,
            say=listener.say,
            checked=not group.first_here,
        )
    except TextError as error:
        raise RunError(f"The text that {run.name} was trained on cannot be read any more: {error}") from None
    job = make_job(config, corpus, make_loader(config, corpus), run, listener, group)
    checkpoint = newest_checkpoint(run.checkpoints, listener.say) if checkpoint_steps(run.checkpoints) else None
    if checkpoint is None:
        listener.say("The run had not saved a checkpoint yet; it starts again from step 0.")
    else:
        refuse_other_settings(run, checkpoint.state)
        if checkpoint.state["data"]["digest"] != corpus.digest:
            raise RunError(f"The text that {run.name} was trained on has changed; train a new run on the new text.")
        restore(job, checkpoint)
        if group.is_main:
            set_aside_after(run.checkpoints, checkpoint.step)  # they are damaged, and would be kept for the newest
    if group.is_main:
        run.truncate(-1 if checkpoint is None else job.progress.step)
    group.barrier()  # before anything is saved that others might take for the newest checkpoint
    if job.progress.step >= config.training.steps:
        listener.say(f"{run.name} is finished: all {config.training.steps} steps are done.")
    return job


def refuse_other_settings(run: Run, state: dict[str, Any]) -> None:
    """Make sure that config.toml still says what the run was trained with, apart from what never changes weights.

    A checkpoint from the time when the number of steps was open (deadline.py) goes on to any number whose decay comes
    later.

    Raises:
        RunError: a setting was edited; it is named. Or the run was trained by an older version.
    """
    if "length_is_open" not in state:
        raise RunError(
            f"{run.name} was trained by an older version, which computed otherwise; it can be used, but not resumed."
        )
    # What an earlier version had no setting for was as the setting's default is now.
    saved, step = RunConfig.from_dict(state["config"]).to_dict(), state["progress"]["step"]
    if state["length_is_open"] and step > stable_steps(run.config.training.steps, run.config.training):
        raise RunError(
            f"config.toml of {run.name} says steps is {run.config.training.steps}, with which step {step} "
            f"would have been trained otherwise; put back {saved['training']['steps']}."
        )
    free = ONLY_WATCHING | ({"steps"} if state["length_is_open"] else set())
    for section, values in run.config.to_dict().items():
        for name, value in values.items():
            if section not in ("text", "sampling") and name not in free and saved[section].get(name) != value:
                raise RunError(
                    f"config.toml of {run.name} says {name} is {value}, but it was trained with "
                    f"{saved[section].get(name)}; put that back, or train a new run."
                )


def plan(
    config: RunConfig, *, processes: int = 1, listener: Listener | None = None, started: float | None = None
) -> Plan:
    """Return what training this configuration would take, measured for a moment on this machine; nothing is trained.

    processes: how many would share the work; memory is then that of one of them, and time that of one by itself.
    started: as in `train`.
    """
    listener = listener or Listener()
    ends = (time.monotonic() if started is None else started) + 60 * config.training.minutes
    refuse_compile(config.training.compile, resolve_device(config.training.device))
    refuse_process_group(config, ProcessGroup(size=processes))
    corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
    config, loader = resolve(config, corpus, listener, ends)
    return make_plan(config, corpus, loader, processes)


def resolve(
    config: RunConfig, corpus: Corpus, listener: Listener, ends: float | None = None
) -> tuple[RunConfig, BatchLoader]:
    """Put the numbers in place of `auto` and 0: vocabulary, precision and steps, so that the run can be repeated.

    ends: when the minutes are over, where they are the length, in time.monotonic(); by default they begin now.
    """
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    config = config.with_values({"vocab_size": corpus.tokenizer.vocab_size, "precision": precision})
    length = config.training
    if length.minutes:
        config = fit_to_time(config, corpus, time.monotonic() + 60 * length.minutes if ends is None else ends, listener)
    loader = make_loader(config, corpus)
    if length.minutes:
        steps = config.training.steps
    elif length.epochs:
        steps = max(1, math.ceil(length.epochs * loader.steps_per_epoch))
    elif length.steps:
        steps = length.steps
    else:
        raise SettingError("steps, epochs and minutes are all 0; one of them must say how long to train.")
    flops = steps * flops_per_step(config)
    compiled = resolve_compile(config.training.compile, device, precision, flops)
    # steps alone repeat the run, compiled or not as this one
    config = config.with_values({"steps": steps, "epochs": 0, "minutes": 0, "size": "given", "compile": compiled})
    warmup = warmup_length(steps, config.training)
    if warmup < config.training.warmup_steps:
        listener.say(
            f"The warm-up is {warmup} steps instead of {config.training.warmup_steps}: half of so short a run."
        )
        config = config.with_values({"warmup_steps": warmup})
    report = loader.report(config.training.steps)
    for sentence in report.sentences():
        listener.say(sentence)
    if report.effective_epochs > MANY_EPOCHS:
        listener.say(
            f"That is often: repeated over {MANY_EPOCHS} times, a text is learned by heart rather than understood. "
            "Train for fewer --steps, add --patience 3 to stop in time, or give more text."
        )
    return config, loader


def warn_of_memory(config: RunConfig, device: torch.device, listener: Listener, processes: int = 1) -> None:
    """Say so where a run will take more memory than is free; where it is far from that, nothing is looked into."""
    # Of a group, those on this machine share its memory; on GPUs each process has its own.
    sharers = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    free = available_memory(device) / sharers
    model, rows = config.model, rows_at_once(config, processes)
    width = 100 * model.n_layers * model.d_model + 20 * model.vocab_size  # more than any kept bytes of a token are
    if 28 * model.parameter_count() + rows * model.context_length * width < free / 2:
        return
    memory = estimate_memory(config, processes)
    if memory.total - memory.process > free:
        less = memory
        while rows > 1 and less.total - less.process > free:
            rows //= 2
            less = estimate_memory(config.with_values({"micro_batch_size": rows}), processes)
        fits = less.total - less.process <= free
        remedy = (
            f"with --micro-batch-size {rows} it would be" if fits else "with one sequence at a time it would still be"
        )
        who = "Each process" if processes > 1 else "This"
        listener.say(
            f"{who} will take about {memory.total / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free"
            f"{' for each' if sharers > 1 else ''}; {remedy} {less.total / 1e9:.1f} GB."
        )


def fit_to_time(config: RunConfig, corpus: Corpus, ends: float, listener: Listener) -> RunConfig:
    """Return the configuration with the steps, and where size is auto the model and batch, that suit the time until
    `ends`.
    """
    if config.training.size == "auto":
        best, looked_at = choose(config, corpus, ends, make_loader)
        listener.chose([candidate.row() for candidate in looked_at], looked_at.index(best))
        return best.config
    measured = measure(config, make_loader(config, corpus))
    config = fit(config, measured, ends - time.monotonic(), len(corpus.held_out.tokens))
    listener.say(
        f"A step takes {measured.seconds_per_step:.3g} s here: about {config.training.steps:,} steps "
        f"in {config.training.minutes:g} minutes."
    )
    return config


def make_loader(config: RunConfig, corpus: Corpus) -> BatchLoader:
    """Return the training batches, in the order of the run's seed."""
    order = stream_seed(config.training.seed, "order")
    return BatchLoader(corpus.train, config.batches, config.model.context_length, order)


def make_job(
    config: RunConfig,
    corpus: Corpus,
    loader: BatchLoader,
    run: Run,
    listener: Listener,
    group: ProcessGroup | None = None,
) -> Job:
    """Build the model and the optimizers at step 0."""
    group = group or ProcessGroup(device=resolve_device(config.training.device))
    model, loss_module = make_loss_module(config, group)
    optimizers = Optimizers(model, config.training)
    byte_lengths = true_byte_lengths(corpus.held_out, corpus.tokenizer.byte_lengths)
    return Job(
        config, corpus, model, loss_module, loader, optimizers, run, group.device, listener, byte_lengths, group=group
    )


def make_loss_module(config: RunConfig, group: ProcessGroup) -> tuple[Decoder, nn.Module]:
    """Return the model at step 0, and what is called to learn: the model with its loss, as the processes share it."""
    training, seed = config.training, stream_seed(config.training.seed, "initialisation")
    several = group.size > 1 and not training.reproducible
    model = shard(config.model, seed, group) if several and training.parallel == "fsdp" else Decoder(config.model, seed)
    model = model.to(group.device)
    loss = compile_for_training(model) if training.compile == "on" else head_loss
    loss_module: nn.Module = TrainedLoss(model, loss, training.precision)
    if several and training.parallel == "ddp":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)  # its new name: not in torch 2.10
            # Every process starts from the same weights, and the mask is the same for all.
            loss_module = DistributedDataParallel(loss_module, broadcast_buffers=False, gradient_as_bucket_view=True)
    return model, loss_module


def carry_out(job: Job) -> Run:
    """Train to the end or to a signal, then draw the run's curve; the caller's global random state is left alone.

    Raises:
        KeyboardInterrupt: a signal stopped the run, which is saved and can be resumed; Terminated after a SIGTERM.
    """
    corpus, scored = job.corpus, job.config.training.eval_tokens
    if job.group.is_main:
        references = measure_references(corpus.train, corpus.held_out, job.byte_lengths, max_tokens=scored)
        job.run.write_references(references)
    try:
        threads = one_thread() if job.config.training.reproducible else nullcontext()
        with threads, random_state_kept(job.device), freed_memory_kept(), Interrupt(job.listener.say) as interrupt:
            finished = train_loop(job, interrupt)
    finally:
        job.listener.end()
    if not finished:
        with suppress(RunError):  # it is saved; a picture that could not be drawn changes nothing about that
            if job.group.is_main:
                draw_run(job.run)
        raise interrupt.stop
    if job.group.is_main:
        draw_run(job.run)
    return job.run
