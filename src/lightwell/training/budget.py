"""The best model for the time one has: which shape and batch to train for so many seconds on this machine.

Each candidate is trained for a moment, to see how many tokens it would get through in the time. What that buys is
predicted by a law of the form of Hoffmann 2022 ("Chinchilla", equation 10),

    loss = E + A / parameters^alpha + B / tokens^beta,

with repeated text worth less the more often it is repeated (Muennighoff 2023, equation 5). A, B, alpha and beta were
fitted to runs of the default corpus by this recipe (docs/performance.md); E, the same for all, decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lightwell.batches.loader import BatchLoader
from lightwell.errors import SettingError
from lightwell.text.prepare import Corpus
from lightwell.training.compilation import resolve_compile
from lightwell.training.config import RunConfig
from lightwell.training.deadline import AT_THE_END
from lightwell.training.device import available_memory, resolve_device
from lightwell.training.plan import Measured, flops_per_step, measure

A, ALPHA = 29.0, 0.30
B, BETA = 700.0, 0.47
E = 1.0
"""Nats per token."""
WORTH = 15.4
"""R*: repeating a text without end is worth this many times reading it anew (Muennighoff 2023, section 5)."""
COMPILED = 1.35
"""How much faster a compiled step is than the eager one that is measured (docs/performance.md)."""
COMPILATION = 15.0
"""Seconds that it takes."""
TRIED = 2
"""Timed micro-batches for each candidate."""

SHAPES = ((2, 128), (3, 192), (4, 256), (6, 256), (5, 384), (6, 512), (8, 512), (8, 768), (12, 768), (16, 1024))
"""Layers and d_model, each step about twice the work; heads are 64 wide, or two in the smallest."""
EVALUATIONS = 5


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
        """What speaks for and against it."""
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
    config: RunConfig, corpus: Corpus, seconds: float, make_loader: Callable[[RunConfig, Corpus], BatchLoader]
) -> tuple[Candidate, list[Candidate]]:
    """The candidate that is predicted to end lowest after so many seconds, and all that were looked at.

    From small to large; where two in a row are predicted to be worse than the best, larger ones are not measured.

    Raises:
        SettingError: there is not enough time, or memory, for any.
    """
    looked_at: list[Candidate] = []
    room = 0.7 * available_memory(resolve_device(config.training.device))
    for n_layers, d_model in SHAPES:
        tried = _shaped(config, n_layers, d_model, seconds)
        candidate = _candidate(tried, corpus, seconds, measure(tried, make_loader(tried, corpus), TRIED))
        if candidate.memory_bytes > room:
            break
        looked_at.append(candidate)
        losses = [one.loss for one in looked_at]
        if candidate.steps < 2 * EVALUATIONS or len(losses) - losses.index(min(losses)) > 2:
            break
    if not looked_at:
        raise SettingError("There is not enough free memory for even the smallest model; end other programs.")
    best = min(looked_at, key=lambda one: one.loss)
    if best.steps < EVALUATIONS:
        raise SettingError(f"{config.training.minutes:g} minutes are too short to train on this text; give more.")
    return best, looked_at


def predicted_loss(parameters: float, tokens: float, unique_tokens: float) -> float:
    """Nats per token after `tokens`, of which no more than unique_tokens differ."""
    repeats = max(0.0, tokens / unique_tokens - 1.0)
    worth = min(tokens, unique_tokens) + unique_tokens * WORTH * (1.0 - math.exp(-repeats / WORTH))
    return float(E + A / parameters**ALPHA + B / worth**BETA)


def _shaped(config: RunConfig, n_layers: int, d_model: int, seconds: float) -> RunConfig:
    """The configuration with that model, and a batch and a context that suit the time."""
    long = seconds > 150
    return config.with_values(
        {
            "n_layers": n_layers, "d_model": d_model, "n_heads": max(2, d_model // 64), "n_kv_heads": 0,
            "head_dim": 0, "d_ff": 0, "context_length": 256 if long else 128, "batch_size": 16,
            "micro_batch_size": 0,
        }
    )  # fmt: skip


def _candidate(config: RunConfig, corpus: Corpus, seconds: float, measured: Measured) -> Candidate:
    device = resolve_device(config.training.device)
    per_step = measured.seconds_per_step
    left = max(0.0, seconds - AT_THE_END)
    compiled = resolve_compile(config.training.compile, device, left / per_step * flops_per_step(config))
    if compiled == "on":
        per_step, left = per_step / COMPILED, left - COMPILATION
    steps = max(1, int(left / per_step))
    tokens_per_step = config.batches.batch_size * config.model.context_length
    unique, parameters = len(corpus.train.tokens), config.model.parameter_count()
    return Candidate(
        config=config.with_values(
            {"steps": steps, "compile": compiled, "eval_every": max(1, steps // EVALUATIONS), "sample_every": steps,
             "checkpoint_every": max(1, steps // EVALUATIONS)}
        ),
        parameters=parameters,
        tokens_per_second=tokens_per_step / per_step,
        memory_bytes=8 * parameters + measured.optimizer_bytes + measured.activation_bytes,
        epochs=steps * tokens_per_step / unique,
        loss=predicted_loss(parameters, steps * tokens_per_step, unique),
    )  # fmt: skip
