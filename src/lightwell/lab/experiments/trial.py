"""One small training of an experiment: a model from its seed to its held-out loss, and nothing on disk but the numbers.

It is made of the parts of Lightwell's own training (batches, loss, optimizers, schedule, evaluation). What it adds is
what experiments need: arms that change one thing in the formula (`Change`), and readings of the model along the way
(`Probe`). Initialisation, data order and dropout come from streams of their own, so that two arms of one seed differ in
nothing but their arm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lightwell.batches.evaluation import evaluation_batches
from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.errors import TrainingError
from lightwell.lab.experiments.prefix import prefix_of
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.tokens.token_file import TokenFile
from lightwell.training.hardware.device import freed_memory_kept, random_state_kept, resolve_device
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.evaluation import Evaluation, evaluate, true_byte_lengths
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss import TrainedLoss, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.streams import stream_seed
from lightwell.training.update.update import update

Change = Callable[[], Tap]
"""Makes the tap through which all training and scoring of an arm goes, to change what flows (explicit attention)."""
Probe = Callable[[Decoder, Corpus, RunConfig], Any]
"""Reads plain values, for JSON, from a model, its text and its trial's settings; it leaves the model as it was."""
Text = Callable[[Corpus, RunConfig, int], Corpus]
"""Makes another text to train and score on, from the session's, a trial's settings and its seed."""


@dataclass(frozen=True)
class Trial:
    """What is to be trained."""

    arm: str
    """The arm's name in the experiment."""
    seed: int
    config: RunConfig
    """The settings, resolved but for the seed: vocabulary, steps and precision are known."""
    change: str = ""
    """The name of a change in the formula (one of the note's), else none."""
    probe: str = ""
    """The name of what is read from the model along the way (a probe of the note), else nothing."""
    probes: int = 0
    """How often it is read after the start, at equal distances up to the end."""
    prefix_tokens: int = 0
    """Tokens of the text, from its start, that it is trained on; 0 means all of them."""
    text: str = ""
    """The name of the text that it is trained and scored on (one of the note's), else the session's."""


def text_of(trial: Trial, corpus: Corpus, texts: Mapping[str, Text]) -> Corpus:
    """Return what a trial is trained and scored on; corpus: the session's text, texts: those that the note makes."""
    return texts[trial.text](corpus, trial.config, trial.seed) if trial.text else corpus


@dataclass(frozen=True)
class Trained:
    """The result of a trial; everything but `seconds` is the same each time on one machine."""

    loss: float
    """The held-out loss in nats per token, through the trial's change."""
    bits_per_byte: float
    train_loss: float
    """The loss on as many tokens of the training text, dropout off."""
    batch_losses: list[float]
    """The loss of each step's batch, with dropout."""
    held_out_losses: list[tuple[int, float]]
    """Step and held-out loss along the way."""
    probed: list[tuple[int, Any]]
    """Step and what the probe read, first of the untrained model."""
    tokens: int
    effective_epochs: float
    parameters: int
    seconds: float
    """The time that training steps took, evaluations left out."""

    @property
    def gap(self) -> float:
        """Return the held-out loss less that on trained text: what was learned by heart."""
        return self.loss - self.train_loss


@dataclass
class TrialRunner:
    """A model of one trial, with all that it takes to train and score it."""

    trial: Trial
    corpus: Corpus
    tap: Tap = passthrough
    model: Decoder = field(init=False)

    def __post_init__(self) -> None:
        config, seed = self.trial.config, self.trial.seed
        self.device = resolve_device(config.training.device)
        self.model = Decoder(config.model, stream_seed(seed, "initialisation")).to(self.device)
        order = stream_seed(seed, "order")
        self.corpus = prefix_of(self.corpus, self.trial.prefix_tokens)
        self.loader = BatchLoader(self.corpus.train, config.batches, config.model.context_length, order)
        self.optimizers = Optimizers(self.model, config.training)
        self.loss_module = TrainedLoss(self.model, head_loss, "fp32", self.tap)

    def step(self, number: int) -> float:
        """Train on the batch of the 0-based step; return its mean loss in nats per token.

        Raises:
            TrainingError: the loss or the gradient is not finite.
        """
        self.model.train()
        result = update(
            self.loss_module, self.optimizers, self.loader.batch(number), self.trial.config.training,
            micro_batch_size=self.trial.config.batches.micro_batch_size, seed=self.trial.seed, step=number,
            group=ProcessGroup(device=self.device),
        )  # fmt: skip
        if not result.is_finite:
            what = f"loss of arm {self.trial.arm} is {result.loss}"
            if math.isfinite(result.loss):
                what = f"gradient of arm {self.trial.arm} has the norm {result.grad_norm}"
            raise TrainingError(f"The {what} at step {number + 1}.")
        return result.loss

    def score(self, tokens: TokenFile) -> Evaluation:
        """Return the loss on the first eval_tokens of a text, dropout off, through the tap.

        Raises:
            TrainingError: it is not finite, as after a last update that diverged.
        """
        score = held_out_loss(self.model, tokens, self.corpus, self.trial.config, tap=self.tap)
        if not math.isfinite(score.nats_per_token):
            raise TrainingError(f"The loss of arm {self.trial.arm} is {score.nats_per_token} when it is scored.")
        return score


def held_out_loss(
    model: Decoder, tokens: TokenFile, corpus: Corpus, config: RunConfig, *, stride: int = 0, tap: Tap = passthrough
) -> Evaluation:
    """Return the loss on the first eval_tokens of a text, dropout off, in windows at `stride` (0: side by side)."""
    batches = evaluation_batches(
        tokens, config.model.context_length, 32, stride=stride, max_tokens=config.training.eval_tokens,
        boundaries=config.batches.document_boundaries,
    )  # fmt: skip
    return evaluate(model, batches, true_byte_lengths(tokens, corpus.tokenizer.byte_lengths), tap=tap)


def train_trial(
    trial: Trial,
    corpus: Corpus,
    change: Change | None = None,
    probe: Probe | None = None,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> Trained:
    """Train a model, with a held-out loss at each tenth of the way.

    before_step: called before each step; what it raises ends the training.

    Raises:
        TrainingError: a loss is not finite.
    """
    with random_state_kept(torch.device("cpu")), freed_memory_kept():
        here = TrialRunner(trial, corpus, change() if change else passthrough)
        corpus = here.corpus
        steps = trial.config.training.steps
        scored = _equally_spaced(steps, 10)
        probed_at = _equally_spaced(steps, trial.probes) if probe else set()
        batch_losses: list[float] = []
        held_out_losses: list[tuple[int, float]] = []
        probed: list[tuple[int, Any]] = [(0, probe(here.model, corpus, trial.config))] if probe else []
        seconds = 0.0
        for number in range(steps):
            before_step()
            started = time.perf_counter()
            batch_losses.append(here.step(number))
            seconds += time.perf_counter() - started
            if number + 1 in scored and number + 1 < steps:
                held_out_losses.append((number + 1, here.score(corpus.held_out).nats_per_token))
            if probe and number + 1 in probed_at:
                probed.append((number + 1, probe(here.model, corpus, trial.config)))
        final = here.score(corpus.held_out)
        held_out_losses.append((steps, final.nats_per_token))
        return Trained(
            loss=final.nats_per_token,
            bits_per_byte=final.bits_per_byte,
            train_loss=here.score(corpus.train).nats_per_token,
            batch_losses=batch_losses,
            held_out_losses=held_out_losses,
            probed=probed,
            tokens=steps * trial.config.batches.batch_size * trial.config.model.context_length,
            effective_epochs=here.loader.report(steps).effective_epochs,
            parameters=trial.config.model.parameter_count(),
            seconds=seconds,
        )


def trained_model(trial: Trial, corpus: Corpus, until: int | None = None) -> Decoder:
    """Return the model of a trial after `until` of its steps (all, if None), for measurements that need its weights."""
    with random_state_kept(torch.device("cpu")), freed_memory_kept():
        here = TrialRunner(trial, corpus)
        for number in range(trial.config.training.steps if until is None else until):
            here.step(number)
    return here.model.eval()


def _equally_spaced(steps: int, count: int) -> set[int]:
    """Return `count` numbers of steps at equal distances, the last step among them."""
    return {max(1, round(steps * i / count)) for i in range(1, count + 1)} if count else set()
