"""Starting, planning and resuming runs, and loading what they made: what the command line and Python both call."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightwell.batches.loader import BatchLoader
from lightwell.errors import RunError, SettingError
from lightwell.generation.language_model import LanguageModel
from lightwell.model.decoder import Decoder
from lightwell.settings import nearest
from lightwell.text.prepare import Corpus, prepare
from lightwell.training.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    checkpoint_steps,
    load_checkpoint,
    newest_checkpoint,
)
from lightwell.training.config import RunConfig
from lightwell.training.device import resolve_device, resolve_precision
from lightwell.training.interrupt import Interrupt
from lightwell.training.listener import Listener
from lightwell.training.loop import Job, load_weights, restore, train_loop
from lightwell.training.optimizers import Optimizers
from lightwell.training.plan import Plan, make_plan, measure
from lightwell.training.plot import plot_run
from lightwell.training.presets import DEFAULT_PRESET, preset
from lightwell.training.references import measure_references
from lightwell.training.run import Run, new_run_path, refuse_to_overwrite
from lightwell.training.streams import stream_seed

LENGTHS = ("steps", "epochs", "minutes")


def compose(
    paths: tuple[str, ...] = (),
    *,
    preset_name: str = "",
    config_file: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """One configuration from a preset, then a TOML file, then single settings, each over the one before.

    Raises:
        SettingError: an unknown preset, file or name, a value that is not allowed, or two lengths at once.
    """
    config = preset(preset_name or DEFAULT_PRESET)
    if config_file is not None:
        given = RunConfig.read_sections(Path(config_file))
        config = config.with_values({name: value for section in given.values() for name, value in section.items()})
    changes = dict(settings or {})
    lengths = [name for name in LENGTHS if changes.get(name)]
    if len(lengths) > 1:
        raise SettingError(f"{' and '.join(lengths)} are given, but one of them alone says how long to train.")
    if lengths:
        changes = {**dict.fromkeys(LENGTHS, 0), **changes}
    if paths:
        changes["paths"] = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - Path.absolute keeps ".."
    tokenizer = changes.get("tokenizer")
    if tokenizer and Path(tokenizer).exists():
        changes["tokenizer"] = os.path.abspath(tokenizer)  # noqa: PTH100
    return config.with_values(changes)


def train(config: RunConfig, *, out: Path | None = None, force: bool = False, listener: Listener | None = None) -> Run:
    """Train a model and save it as a run.

    Raises:
        LightwellError: anything foreseeable: the text, a setting, the run folder, the disk, numbers that overflow.
    """
    listener = listener or Listener()
    out = out or new_run_path(config.text)
    refuse_to_overwrite(out, force)
    corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
    config, loader = resolve(config, corpus, listener)
    for sentence in loader.report(config.training.steps).sentences():
        listener.say(sentence)
    run = Run.create(out, config, corpus.tokenizer, force=force)
    return carry_out(make_job(config, corpus, loader, run, listener))


def resume(path: Path, *, listener: Listener | None = None) -> Run:
    """Go on with a run exactly where its newest good checkpoint was written; a finished run is left as it is.

    Raises:
        RunError: no such run, or its text or tokenizer is no longer what it was trained on.
    """
    listener = listener or Listener()
    run = Run(path)
    config = run.config
    corpus = prepare(config.text, config.model.vocab_size, tokenizer=run.tokenizer, say=listener.say)
    job = make_job(config, corpus, make_loader(config, corpus), run, listener)
    checkpoint = newest_checkpoint(run.checkpoints, listener.say) if checkpoint_steps(run.checkpoints) else None
    if checkpoint is None:
        listener.say("The run had not saved a checkpoint yet; it starts again from step 0.")
    else:
        if checkpoint.state["data"]["digest"] != corpus.digest:
            raise RunError(f"The text that {run.name} was trained on has changed; train a new run on the new text.")
        restore(job, checkpoint)
    run.truncate(-1 if checkpoint is None else job.progress.step)
    if job.progress.step == config.training.steps:
        listener.say(f"{run.name} is finished: all {config.training.steps} steps are done.")
    return carry_out(job)


def plan(config: RunConfig, *, listener: Listener | None = None) -> Plan:
    """What training this configuration would take, measured for a moment on this machine; nothing is trained."""
    listener = listener or Listener()
    corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
    config, loader = resolve(config, corpus, listener)
    return make_plan(config, corpus, loader, measure(config, loader))


def load(
    path: str | Path, *, checkpoint: str | int = "best", context_length: int = 0, device: str = "auto"
) -> LanguageModel:
    """The model of a run with its tokenizer.

    checkpoint: "best" (the lowest held-out loss), "newest", or a step.
    context_length: longer (or shorter) than trained; learned positions do not reach further than they were trained.

    Raises:
        RunError: no such run or checkpoint, or all of them damaged.
        SettingError: a context_length beyond learned positions.
    """
    run = Run(path)
    saved = choose_checkpoint(run, checkpoint)
    config = run.config.model
    if context_length and config.positions == "learned" and context_length != config.context_length:
        raise SettingError(
            f"context_length is {context_length}, but {run.name} learned exactly {config.context_length} positions; "
            "leave it, or train with --positions rope."
        )
    model = Decoder(dataclasses.replace(config, context_length=context_length or config.context_length))
    load_weights(model, saved.model)
    return LanguageModel(model.to(resolve_device(device)).eval(), run.tokenizer)


def choose_checkpoint(run: Run, wanted: str | int, listener: Listener | None = None) -> Checkpoint:
    """The checkpoint that "best", "newest" or a step number means.

    Raises:
        RunError: the run has no such checkpoint.
    """
    say = (listener or Listener()).say
    if wanted == "newest":
        return newest_checkpoint(run.checkpoints, say)
    if wanted == "best":
        scores = {record["step"]: record["validation_loss"] for record in run.metrics() if "validation_loss" in record}
        saved = [step for step in checkpoint_steps(run.checkpoints) if step in scores]
        for step in sorted(saved, key=lambda step: scores[step]):
            try:
                return load_checkpoint(checkpoint_folder(run.checkpoints, step))
            except RunError as error:
                say(f"{error} The next best is used.")
        return newest_checkpoint(run.checkpoints, say)
    steps = checkpoint_steps(run.checkpoints)
    if not str(wanted).isdigit() or int(wanted) not in steps:
        names = ["best", "newest", *map(str, steps)]
        raise RunError(f"{run.name} has no checkpoint {wanted}; it has {', '.join(names)}.{nearest(wanted, names)}")
    return load_checkpoint(checkpoint_folder(run.checkpoints, int(wanted)))


def resolve(config: RunConfig, corpus: Corpus, listener: Listener) -> tuple[RunConfig, BatchLoader]:
    """Put the numbers in place of `auto` and 0: vocabulary, precision and steps, so that the run can be repeated."""
    device = resolve_device(config.training.device)
    precision = resolve_precision(config.training.precision, device)
    config = config.with_values({"vocab_size": corpus.tokenizer.vocab_size, "precision": precision})
    loader = make_loader(config, corpus)
    if config.training.minutes:
        seconds = measure(config, loader).seconds_per_step
        steps = max(1, int(config.training.minutes * 60 / seconds))
        listener.say(f"A step takes {seconds:.3g} s here: {steps:,} steps in {config.training.minutes:g} minutes.")
        config = config.with_values({"steps": steps})
    elif config.training.epochs:
        config = config.with_values({"steps": max(1, math.ceil(config.training.epochs * loader.steps_per_epoch))})
    elif not config.training.steps:
        raise SettingError("steps, epochs and minutes are all 0; one of them must say how long to train.")
    return config, loader


def make_loader(config: RunConfig, corpus: Corpus) -> BatchLoader:
    """The training batches, in the order of the run's seed."""
    order = stream_seed(config.training.seed, "order")
    return BatchLoader(corpus.train, config.batches, config.model.context_length, order)


def make_job(config: RunConfig, corpus: Corpus, loader: BatchLoader, run: Run, listener: Listener) -> Job:
    """Build the model and the optimizers at step 0."""
    device = resolve_device(config.training.device)
    model = Decoder(config.model, seed=stream_seed(config.training.seed, "initialisation")).to(device)
    forward = torch.compile(model) if config.training.compile else model
    optimizers = Optimizers(model, config.training)
    return Job(config, corpus, model, forward, loader, optimizers, run, device, listener)


def carry_out(job: Job) -> Run:
    """Train to the end or to a signal, then draw the run's curve; the caller's global random state is left alone.

    Raises:
        KeyboardInterrupt: a signal stopped the run; it is saved and can be resumed.
    """
    corpus = job.corpus
    lengths, scored = corpus.tokenizer.byte_lengths, job.config.training.eval_tokens
    job.run.write_references(measure_references(corpus.train, corpus.validation, lengths, max_tokens=scored))
    try:
        with torch.random.fork_rng(devices=[]), Interrupt() as interrupt:
            finished = train_loop(job, interrupt)
    finally:
        job.listener.end()
    draw(job.run)
    if not finished:
        raise KeyboardInterrupt
    return job.run


def draw(run: Run) -> tuple[Path, Path]:
    """Draw the run's curve as curve.png and curve.svg in its folder."""
    png, svg = run.path / "curve.png", run.path / "curve.svg"
    plot_run(run.metrics(), run.references(), png, svg, run.name)
    return png, svg
