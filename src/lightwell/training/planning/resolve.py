"""From settings to numbers: what a run of this text on this machine is to be, before anything is built.

The vocabulary, the precision, whether to compile, and the length in steps stand in config.toml afterwards, so that the
run can be repeated. What cannot be done is refused here, and what takes too much memory is said.
"""

from __future__ import annotations

import math
import os
import time

import torch

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.errors import SettingError
from lightwell.training.hardware.device import available_memory, resolve_device, resolve_precision
from lightwell.training.planning.budget import choose, fit
from lightwell.training.planning.memory import estimate_memory, local_micro_batch_size
from lightwell.training.planning.plan import flops_per_step, measure
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.listener import Listener
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.compilation import resolve_compile
from lightwell.training.update.reproducible import refuse_uneven
from lightwell.training.update.schedule import warmup_length
from lightwell.training.update.streams import stream_seed

MANY_EPOCHS = 40
"""Passes from which on a text is repeated too often (Muennighoff 2023, R* = 15.4: 40 are worth 15 of fresh text)."""


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


def warn_of_memory(config: RunConfig, device: torch.device, listener: Listener, processes: int = 1) -> None:
    """Say so where a run will take more memory than is free; where it is far from that, nothing is looked into."""
    # Of a group, those on this machine share its memory; on GPUs each process has its own.
    sharers = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    free = available_memory(device) / sharers
    model, rows = config.model, local_micro_batch_size(config, processes)
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


def make_loader(config: RunConfig, corpus: Corpus) -> BatchLoader:
    """Return the training batches, in the order of the run's seed."""
    order = stream_seed(config.training.seed, "order")
    return BatchLoader(corpus.train, config.batches, config.model.context_length, order)
