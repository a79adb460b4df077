"""The best model for the time one has: which shape and batch to train for so many seconds on this machine.

Each candidate is trained for a moment, to see how many tokens it would get through in the time. What that buys is
predicted by a law of the form of Hoffmann 2022 ("Chinchilla", equation 10),

    loss = E + A / parameters^alpha + B / tokens^beta + C / context,

with repeated text worth less the more often it is repeated (Muennighoff 2023, equation 5). alpha is Hoffmann's; the
others were fitted to runs of one, three and ten minutes on the default corpus by the recipe of the small presets
(docs/performance.md). E, the same for all, decides nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.errors import SettingError
from lightwell.model.config import ModelConfig
from lightwell.training.hardware.device import available_memory, resolve_device
from lightwell.training.planning.deadline import FIRST_STEPS, ending_seconds
from lightwell.training.planning.plan import Measured, flops_per_step, measure
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset
from lightwell.training.update.compilation import compile_in_time, expected_seconds

A, ALPHA = 30.0, 0.34
B, BETA = 428.0, 0.452
C = 8.0
"""Nats times tokens of context."""
E = 2.3
"""Nats per token."""
WORTH = 3.0
"""R*: repeating a text without end is worth this many times reading it anew, for models of 0.4 to 11 million
parameters; for ones a thousand times as large Muennighoff 2023 (section 5) has 15.4."""
TRIED = 2
"""Timed micro-batches for each candidate."""
LOOKING = 0.08
"""The share of the time that may go into looking at candidates, beyond the smallest."""

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

    held_out: tokens there are to evaluate on; scoring one takes about a third of learning from it.

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
        """Return what speaks for and against it."""
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
    """Return the candidate that is predicted to stand lowest at `ends` (time.monotonic()), and all that were looked at.

    Shapes from small to large, until two in a row are predicted to be worse than the best; then longer contexts for
    the best shape, until one is worse. Those for which there is no memory are not tried, and none when looking would
    take more than LOOKING of the time.

    Raises:
        SettingError: there is not enough time, or memory, for any.
    """
    search = _Search(corpus, ends, make_loader, 0.7 * available_memory(resolve_device(config.training.device)))
    for n_layers, d_model in SHAPES:
        if not search.look_at(_shaped(config, corpus, n_layers, d_model, CONTEXTS[0])) or search.worse_in_a_row > 1:
            break
    for context in CONTEXTS[1:]:
        best = search.best().config
        longer = _shaped(config, corpus, best.model.n_layers, best.model.d_model, context)
        steps = best.training.steps * best.model.context_length / context
        if steps < ENOUGH_STEPS or longer.model.context_length == best.model.context_length:  # the text is no longer
            break
        if not search.look_at(longer) or search.worse_in_a_row:
            break
    looked_at = search.candidates()
    return min(looked_at, key=lambda one: one.loss), looked_at


class _Search:
    """What was looked at so far."""

    def __init__(
        self, corpus: Corpus, ends: float, make_loader: Callable[[RunConfig, Corpus], BatchLoader], room: float
    ) -> None:
        self._corpus, self._ends, self._make_loader, self._room = corpus, ends, make_loader, room
        self._until = time.monotonic() + LOOKING * (ends - time.monotonic())
        self._measured: list[tuple[RunConfig, Measured]] = []
        self._losses: list[float] = []

    @property
    def worse_in_a_row(self) -> int:
        """Return how many were looked at since the best."""
        return len(self._losses) - 1 - self._losses.index(min(self._losses))

    def look_at(self, config: RunConfig) -> bool:
        """Train it for a moment; False where there is no memory or no time for that, or it is too slow for the time.

        Raises:
            SettingError: it is the first, and the smallest.
        """
        last = self._measured[-1] if self._measured else None
        activations = 2 * last[1].activation_bytes if last else 0
        if BYTES_PER_PARAMETER * config.model.parameter_count() + activations > self._room:
            if last is None:
                raise SettingError("There is not enough free memory for even the smallest model; end other programs.")
            return False
        if last and _until_seen(config, *last) > self._until:
            return False
        measured = measure(config, self._make_loader(config, self._corpus), TRIED)
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
        found: list[Candidate] = []
        for one in self._measured:
            try:
                found.append(_candidate(*one, self._corpus, self._ends))
            except SettingError:
                if one is self._measured[0]:
                    raise
        return found

    def best(self) -> Candidate:
        """Return the one with the lowest prediction."""
        return min(self.candidates(), key=lambda one: one.loss)


def _until_seen(config: RunConfig, last: RunConfig, measured: Measured) -> float:
    """When a candidate would have been looked at, by the time that a step of the one before took."""
    step = measured.seconds_per_step * flops_per_step(config) / flops_per_step(last)
    return time.monotonic() + (TRIED + 1) * step


def predicted_loss(model: ModelConfig, tokens: float, unique_tokens: float) -> float:
    """Return nats per token after `tokens`, of which no more than unique_tokens differ.

    Parameters are those of the blocks, about 12 n_layers d_model^2, as is usual for such laws: a table of embeddings is
    only looked up.
    """
    parameters = 12 * model.n_layers * model.d_model**2
    repeats = max(0.0, tokens / unique_tokens - 1.0)
    worth = min(tokens, unique_tokens) + unique_tokens * WORTH * (1.0 - math.exp(-repeats / WORTH))
    return float(E + A / parameters**ALPHA + B / worth**BETA + C / model.context_length)


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
    config = fit(config, measured, ends - time.monotonic(), len(corpus.held_out.tokens))
    steps = config.training.steps
    per_step, _ = expected_seconds(config.training.compile, measured.seconds_per_step)
    every = max(1, steps // EVALUATIONS)
    usual = preset(DEFAULT_PRESET).training
    watching = {"eval_every": every, "checkpoint_every": every, "sample_every": 0}  # what the user sets is left alone
    watching = {name: new for name, new in watching.items() if getattr(config.training, name) == getattr(usual, name)}
    tokens_per_step = config.batches.batch_size * config.model.context_length
    unique, parameters = len(corpus.train.tokens), config.model.parameter_count()
    return Candidate(
        config=config.with_values(watching),
        parameters=parameters,
        tokens_per_second=tokens_per_step / per_step,
        memory_bytes=12 * parameters + 2 * measured.optimizer_bytes + measured.activation_bytes,
        epochs=steps * tokens_per_step / unique,
        loss=predicted_loss(config.model, steps * tokens_per_step, unique),
    )
