"""What a run will take, before it starts: tokens, windows, parameters, memory, FLOPs and time."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.hardware.device import freed_memory_kept, random_state_kept, resolve_device
from lightwell.training.planning.memory import estimate_memory
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.compilation import expected_seconds
from lightwell.training.update.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.update import apply_gradients
from lightwell.views import html, lines


@dataclass(frozen=True, repr=False)
class Plan:
    """The figures of a run that has not started; bytes, FLOPs and seconds."""

    documents: int
    train_tokens: int
    held_out_tokens: int
    windows: int
    effective_epochs: float
    tokens_skipped: int
    steps: int
    n_layers: int
    d_model: int
    context_length: int
    batch_size: int
    tokens_per_step: int
    parameters: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    snapshot_bytes: int
    working_bytes: int
    process_bytes: int
    flops: float
    seconds_per_step: float
    """Seconds that a step takes; where the run is compiled, estimated from an eager step."""
    seconds: float
    """Seconds in steps, and in compiling them."""
    processes: int = 1
    """Processes that share the work; bytes are those of one of them, seconds those of one that does all."""

    def __repr__(self) -> str:
        return lines("Plan", self._about())

    def _repr_html_(self) -> str:
        return html("Plan", self._about())

    def _about(self) -> list[tuple[str, str]]:
        documents = f"{self.documents:,} document{'s' if self.documents != 1 else ''}"
        shape = f"{self.n_layers} x {self.d_model}, context {self.context_length:,}"
        steps = f"{self.steps:,} step{'s' if self.steps != 1 else ''} of {self.tokens_per_step:,} tokens"
        seconds = f"{self.seconds:,.{0 if self.seconds >= 10 else 1}f} s"
        return [
            ("text", f"{documents}, {self.train_tokens:,} tokens, {self.held_out_tokens:,} held out"),
            ("model", f"{self.parameters:,} parameters: {shape}"),
            ("training", f"{steps}, {self.effective_epochs:.3g} passes"),
            ("takes", f"{seconds}, {self.memory_bytes / 1e6:,.0f} MB, {self.flops:.3g} FLOPs"),
        ]

    @property
    def memory_bytes(self) -> int:
        """Return all bytes at the peak (memory.py)."""
        held = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.snapshot_bytes
        return held + self.activation_bytes + self.working_bytes + self.process_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        values["validation_tokens"] = values.pop("held_out_tokens")  # as scripts know it
        return {**values, "memory_bytes": self.memory_bytes}


@dataclass(frozen=True)
class Measured:
    """One trial of a training step on this machine."""

    seconds_per_step: float
    activation_bytes: int
    optimizer_bytes: int


def make_plan(config: RunConfig, corpus: Corpus, loader: BatchLoader, processes: int = 1) -> Plan:
    """Put the figures of a resolved configuration together, its pace measured."""
    report = loader.report(config.training.steps)
    memory = estimate_memory(config, processes)  # before this process has grown by the measurement
    measured = measure(config, loader)
    seconds_per_step, wait = expected_seconds(config.training.compile, measured.seconds_per_step)
    tokens_per_step = config.batches.batch_size * config.model.context_length
    return Plan(
        documents=corpus.documents,
        train_tokens=len(corpus.train.tokens),
        held_out_tokens=len(corpus.held_out.tokens),
        windows=report.windows,
        effective_epochs=report.effective_epochs,
        tokens_skipped=report.tokens_skipped,
        steps=config.training.steps,
        n_layers=config.model.n_layers,
        d_model=config.model.d_model,
        context_length=config.model.context_length,
        batch_size=config.batches.batch_size,
        tokens_per_step=tokens_per_step,
        parameters=config.model.parameter_count(),
        weight_bytes=memory.weights,
        gradient_bytes=memory.gradients,
        optimizer_bytes=memory.moments,
        activation_bytes=memory.activations,
        snapshot_bytes=memory.snapshot,
        working_bytes=memory.working,
        process_bytes=memory.process,
        flops=flops_per_step(config) * config.training.steps,
        seconds_per_step=seconds_per_step,
        seconds=seconds_per_step * config.training.steps + wait,
        processes=processes,
    )


def flops_per_step(config: RunConfig) -> float:
    """Model FLOPs of one optimizer step: every position of its batch counts, padding too."""
    return flops_per_token(config.model) * config.batches.batch_size * config.model.context_length


def flops_per_token(config: ModelConfig) -> float:
    """Model FLOPs of a training step per token, 6 N + 12 n_layers d T (Chowdhery 2022, PaLM, appendix B).

    N leaves out tables that are only looked up: learned positions, and the token embedding where the head is another.
    """
    D, T = config.d_model, config.context_length
    looked_up = (T * D if config.positions == "learned" else 0) + (0 if config.tied_head else config.vocab_size * D)
    attention = 12 * config.n_layers * config.n_heads * config.head_width * T
    return 6 * (config.parameter_count() - looked_up) + attention


TRIALS, PATIENCE = 7, 4.0
"""Micro-batches that are timed, fewer where they take longer than so many seconds together."""


def measure(config: RunConfig, loader: BatchLoader, trials: int = TRIALS) -> Measured:
    """Train a throwaway model for a moment: a warm-up micro-batch, then up to `trials` timed ones, and two updates.

    A step is taken to be the median micro-batch times their number, and the update.
    """
    device = resolve_device(config.training.device)
    with random_state_kept(device), freed_memory_kept():
        model = Decoder(config.model, seed=0).to(device).train()
        optimizers = Optimizers(model, config.training)
        micro_batch_size = config.batches.micro_batch_size or config.batches.batch_size
        batch = loader.batch(0).split(micro_batch_size)[0]
        backward = functools.partial(
            accumulate_gradients, TrainedLoss(model, head_loss, config.training.precision), batch,
            micro_batch_size=0, seed=0, step=0, group=ProcessGroup(device=device),
        )  # fmt: skip
        saved = _saved_bytes(model, backward)  # also the warm-up
        times: list[float] = []
        while len(times) < trials and sum(times) < PATIENCE:
            started = time.perf_counter()
            backward()
            times.append(time.perf_counter() - started)
        per_micro_batch = statistics.median(times)
        move = functools.partial(
            apply_gradients, list(model.parameters()), optimizers, config.training, step=0, loss=0.0
        )
        move()  # the first one allocates the moments
        started = time.perf_counter()
        move()
        update = time.perf_counter() - started
    state = sum(tensor.numel() * tensor.element_size() for tensor in optimizers.state_tensors().values())
    micro_batches = config.batches.batch_size / micro_batch_size
    return Measured(per_micro_batch * micro_batches + update, saved, state)


def _saved_bytes(model: Decoder, backward: Callable[[], object]) -> int:
    """Return the bytes that the forward pass in `backward` saves for its backward pass, apart from the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}  # each storage once

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        backward()
    return sum(saved.values())
