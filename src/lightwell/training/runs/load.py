"""Loading what a run has made: one of its checkpoints, as a model that writes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from lightwell.arguments import checked
from lightwell.errors import RunError, SettingError
from lightwell.generation.language_model import LanguageModel
from lightwell.model.decoder import Decoder
from lightwell.settings import Meta, nearest
from lightwell.training.checkpoints.checkpoint import (
    Weights,
    checkpoint_folder,
    checkpoint_steps,
    load_checkpoint_weights,
    newest_weights,
)
from lightwell.training.hardware.device import Device, resolve_device
from lightwell.training.processes.sharded_tensors import copy_full_
from lightwell.training.runs.best import evaluations_best_first
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run, find_run
from lightwell.training.settings.config import RunConfig

NOT_IN_THE_WEIGHTS = ("attention", "init_std", "embedding_dropout", "attention_dropout", "residual_dropout")
"""The settings of a model that may be edited afterwards: they change nothing about what its weights compute."""


@checked
def load(
    run: str | os.PathLike[str],
    *,
    checkpoint: str | int = "best",
    context_length: Annotated[int, Meta(ge=0)] = 0,
    device: Device = "auto",
    attention: Literal["as trained", "explicit", "fused"] = "as trained",
    listener: Listener | None = None,
) -> LanguageModel:
    """Return the model of a run, given by its folder or by its name in runs/, with its tokenizer.

    checkpoint: "best" (the lowest held-out loss), "newest", or a step.
    context_length: longer (or shorter) than trained; learned positions do not reach further than they were trained.
    attention: how it is computed; "explicit" names every step of the formula to a tap, with the same values to 1e-5.

    Raises:
        RunError: no such run or checkpoint, or all of them damaged.
        SettingError: a context_length beyond learned positions.
    """
    opened = Run(find_run(run))
    saved = choose_checkpoint(opened, checkpoint, listener)
    return language_model(opened, saved, context_length, device, "" if attention == "as trained" else attention)


def language_model(
    run: Run, saved: Weights, context_length: int = 0, device: str = "auto", attention: str = ""
) -> LanguageModel:
    """Return the model that weights of a run make, with the run's tokenizer; the arguments are those of `load`.

    Raises:
        SettingError: a context_length beyond learned positions.
        RunError: config.toml describes another model than the one that was trained.
    """
    config = run.config.model
    refuse_edited_model(run, saved.state)
    if context_length and config.positions == "learned" and context_length != config.context_length:
        raise SettingError(
            f"context_length is {context_length}, but {run.name} learned exactly {config.context_length} positions; "
            "leave it, or train with --positions rope."
        )
    changed: dict[str, Any] = {"context_length": context_length, "attention": attention}
    model = Decoder(dataclasses.replace(config, **{name: value for name, value in changed.items() if value}))
    load_weights(model, saved.model)
    return LanguageModel(model.to(resolve_device(device)).eval(), run.tokenizer)


def refuse_edited_model(run: Run, state: Mapping[str, Any]) -> None:
    """Make sure that config.toml describes the model whose weights were saved.

    Raises:
        RunError: a setting that decides what the weights mean was edited; it is named.
    """
    if "config" not in state:  # of an older version
        return
    saved = RunConfig.from_dict(state["config"]).model.to_dict()
    for name, value in run.config.model.to_dict().items():
        if name not in NOT_IN_THE_WEIGHTS and saved[name] != value:
            raise RunError(
                f"config.toml of {run.name} says {name} is {value}, but its weights were trained with {saved[name]}; "
                "put that back."
            )


def choose_checkpoint(run: Run, wanted: str | int, listener: Listener | None = None) -> Weights:
    """Return the weights of the checkpoint that "best", "newest" or a step number means; its optimizer's state is not
    read.

    Raises:
        RunError: the run has no such checkpoint.
    """
    say = (listener or Listener()).say
    if wanted == "newest":
        return newest_weights(run.checkpoints, say)
    if wanted == "best":
        saved = checkpoint_steps(run.checkpoints)
        for record in evaluations_best_first(run.metrics()):
            if record["step"] not in saved:
                continue
            try:
                return load_checkpoint_weights(checkpoint_folder(run.checkpoints, record["step"]))
            except RunError as error:
                say(f"{error} The next best is used.")
        return newest_weights(run.checkpoints, say)
    steps = checkpoint_steps(run.checkpoints)
    if not str(wanted).isdigit() or int(wanted) not in steps:
        names = ["best", "newest", *map(str, steps)]
        raise RunError(f"{run.name} has no checkpoint {wanted}; it has {', '.join(names)}.{nearest(wanted, names)}")
    return load_checkpoint_weights(checkpoint_folder(run.checkpoints, int(wanted)))


@torch.no_grad()
def load_weights(model: Decoder, weights: Mapping[str, Tensor]) -> None:
    """Copy saved weights into a model of the same shape, of which this process may hold a shard only."""
    for name, parameter in model.named_parameters():
        copy_full_(weights[name], parameter)
