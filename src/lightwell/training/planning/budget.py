"""The best model for the time one has: which shape and batch to train for so many seconds on this machine.

Each candidate is trained for a moment, to see how many tokens it would get through in the time; what loss that buys is
predicted by a scaling law (scaling_law.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.errors import SettingError
from lightwell.training.hardware.device import available_memory, resolve_device
from lightwell.training.planning.deadline import FIRST_STEPS, ending_seconds
from lightwell.training.planning.plan import Measured, flops_per_step, measure
from lightwell.training.planning.scaling_law import SMALL_MODELS, block_parameters
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset
from lightwell.training.update.compilation import compile_in_time, expected_seconds

TIMED_MICRO_BATCHES = 2
"""How many of them a candidate is timed with."""
SEARCH_SHARE = 0.08
"""The share of the time that may go into measuring candidates, beyond the smallest."""

SHAPES = ((1, 128), (2, 128), (2, 192), (3, 192), (3, 256), (4, 256), (5, 384), (6, 512), (8, 512), (8, 768), (12, 768))
"""Layers and d_model, the smallest first; heads are 64 wide."""
CONTEXTS = (128, 256, 512)
"""The shapes are compared with the first; the best of them is tried with the others."""
BATCH = 16
ENOUGH_STEPS = 1000
"""A longer context is tried as long as it leaves so many steps: before, its larger steps are worth more apart."""
EVALUATIONS = 5
"""Along the way of a run whose size was chosen, and as many checkpoints."""
BYTES_PER_PARAMETER = 28
"""Weight, gradient and two moments, in fp32, and a checkpoint's snapshot of weight and moments."""


def fit(config: RunConfig, measured: Measured, seconds: float, held_out: int) -> RunConfig:
    """Return the configuration with as many steps as fit into so many seconds, compiled where that pays.

    held_out: how many tokens there are to evaluate on; scoring one takes about a third of learning from it.

    Raises:
        SettingError: not even a few steps fit.
    """
    eager, training = measured.seconds_per_step, config.training
    tokens = config.batches.batch_size * config.model.context_length
    evaluation = eager / 3 * min(training.eval_tokens, held_out) / tokens
    left = seconds - ending_seconds(config.model.parameter_count()) - 2 * evaluation  # at the start and at the end
    compiled = compile_in_time(training.compile, resolve_device(training.device), training.precision, eager, left)
    per_step, wait = expected_seconds(compiled, eager)
    if training.eval_every:
        per_step += evaluation / training.eval_every
    steps = int(max(0.0, left - wait) / per_step)
    if steps < FIRST_STEPS:
        raise SettingError(
            f"{config.training.minutes:g} minutes are too short to train this: {max(0.0, seconds):.0f} s are left "
            f"of them, and a step takes {eager:.2g} s; give more, or choose a smaller model."
        )
    return config.with_values({"steps": steps, "compile": compiled})


@dataclass(frozen=True)
class Candidate:
    """One model, and what the time would make of it."""

    config: RunConfig
    parameters: int
    tokens_per_second: float
    memory_bytes: int
    epochs: float
    loss: float
    """Predicted, in nats per token of the default corpus; only comparisons mean something."""

    @property
    def steps(self) -> int:
        """Optimizer steps in the time."""
        return self.config.training.steps

    def row(self) -> dict[str, float]:
        """Return what speaks for and against the candidate, by name."""
        model, batches = self.config.model, self.config.batches
        return {
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "context_length": model.context_length,
            "batch_size": batches.batch_size,
            "parameters": self.parameters,
            "tokens_per_second": self.tokens_per_second,
            "memory_bytes": self.memory_bytes,
            "steps": self.steps,
            "epochs": self.epochs,
            "predicted_loss": self.loss,
        }


def choose(
    config: RunConfig, corpus: Corpus, ends: float, make_loader: Callable[[RunConfig, Corpus], BatchLoader]
) -> tuple[Candidate, list[Candidate]]:
    """Return the candidate with the lowest loss predicted for `ends` (time.monotonic()), and all that were measured.

    Shapes from small to large, until two in a row are predicted to be worse than the best; then longer contexts for
    the best shape, until one is worse. Those for which there is no memory are not tried, and none when measuring it
    would take the search beyond SEARCH_SHARE of the time.

    Raises:
        SettingError: there is not enough time, or memory, for any.
    """
    search = _Search(corpus, ends, make_loader, 0.7 * available_memory(resolve_device(config.training.device)))
    for n_layers, d_model in SHAPES:
        if not search.measure(_shaped(config, corpus, n_layers, d_model, CONTEXTS[0])) or search.since_best > 1:
            break
    for context in CONTEXTS[1:]:
        best = lowest(search.candidates()).config
        longer = _shaped(config, corpus, best.model.n_layers, best.model.d_model, context)
        steps = best.training.steps * best.model.context_length / context
        if steps < ENOUGH_STEPS or longer.model.context_length == best.model.context_length:  # the text is no longer
            break
        if not search.measure(longer) or search.since_best:
            break
    candidates = search.candidates()
    return lowest(candidates), candidates


def lowest(candidates: list[Candidate]) -> Candidate:
    """Return the candidate with the lowest predicted loss."""
    return min(candidates, key=lambda candidate: candidate.loss)


class _Search:
    """The candidates that were measured so far."""

    def __init__(
        self, corpus: Corpus, ends: float, make_loader: Callable[[RunConfig, Corpus], BatchLoader], memory: float
    ) -> None:
        self._corpus, self._ends, self._make_loader, self._memory = corpus, ends, make_loader, memory
        self._until = time.monotonic() + SEARCH_SHARE * (ends - time.monotonic())
        self._measured: list[tuple[RunConfig, Measured]] = []
        self._losses: list[float] = []

    @property
    def since_best(self) -> int:
        """Return how many were measured after the best."""
        return len(self._losses) - 1 - self._losses.index(min(self._losses))

    def measure(self, config: RunConfig) -> bool:
        """Train it for a moment; False where there is no memory or no time for that, or it is too slow for the time.

        Raises:
            SettingError: it is the first, and the smallest.
        """
        last = self._measured[-1] if self._measured else None
        activations = 2 * last[1].activation_bytes if last else 0
        if BYTES_PER_PARAMETER * config.model.parameter_count() + activations > self._memory:
            if last is None:
                raise SettingError("There is not enough free memory for even the smallest model; end other programs.")
            return False
        if last:
            step = last[1].seconds_per_step * flops_per_step(config) / flops_per_step(last[0])
            if time.monotonic() + (TIMED_MICRO_BATCHES + 1) * step > self._until:  # the first one is not timed
                return False
        measured = measure(config, self._make_loader(config, self._corpus), TIMED_MICRO_BATCHES)
        try:
            self._losses.append(_candidate(config, measured, self._corpus, self._ends).loss)
        except SettingError:
            if last is None:
                raise
            return False
        self._measured.append((config, measured))
        return True

    def candidates(self) -> list[Candidate]:
        """Return all of them, for the time that is left now; without those that it has become too short for.

        Raises:
            SettingError: it is too short for the smallest.
        """
        candidates: list[Candidate] = []
        for config, measured in self._measured:
            try:
                candidates.append(_candidate(config, measured, self._corpus, self._ends))
            except SettingError:
                if measured is self._measured[0][1]:
                    raise
        return candidates


def _shaped(config: RunConfig, corpus: Corpus, n_layers: int, d_model: int, context: int) -> RunConfig:
    """Return the configuration with that model, and a context no longer than the text."""
    return config.with_values(
        {
            "n_layers": n_layers,
            "d_model": d_model,
            "n_heads": d_model // 64,
            "context_length": min(context, len(corpus.train.tokens) - 1),
            "batch_size": BATCH,
        }
    )


def _candidate(config: RunConfig, measured: Measured, corpus: Corpus, ends: float) -> Candidate:
    """Return what becomes of a configuration whose step was measured, in the time until `ends`.

    Raises:
        SettingError: not even a few steps fit.
    """
    config = fit(config, measured, ends - time.monotonic(), len(corpus.held_out.tokens))
    steps = config.training.steps
    per_step, _ = expected_seconds(config.training.compile, measured.seconds_per_step)
    every = max(1, steps // EVALUATIONS)
    usual = preset(DEFAULT_PRESET).training
    watching = {"eval_every": every, "checkpoint_every": every, "sample_every": 0}
    unset = {name: new for name, new in watching.items() if getattr(config.training, name) == getattr(usual, name)}
    tokens_per_step = config.batches.batch_size * config.model.context_length
    unique, parameters = len(corpus.train.tokens), config.model.parameter_count()
    return Candidate(
        config=config.with_values(unset),  # what the user sets is left alone
        parameters=parameters,
        tokens_per_second=tokens_per_step / per_step,
        memory_bytes=12 * parameters + 2 * measured.optimizer_bytes + measured.activation_bytes,
        epochs=steps * tokens_per_step / unique,
        loss=SMALL_MODELS.loss(
            parameters=block_parameters(config.model),
            tokens=steps * tokens_per_step,
            unique_tokens=unique,
            context_length=config.model.context_length,
        ),
    )
