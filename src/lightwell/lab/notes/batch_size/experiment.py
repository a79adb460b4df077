"""Note 1, batch size: how noisy gradients are, what memory grows with, and which size wins at equal what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.pace import seconds_per_step
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.lab.notes.batch_size.gradients import (
    SAME,
    SIZES,
    gradient_noise,
    micro_batch_error,
    noise_laws,
    refuse_too_large,
    scale_words,
)
from lightwell.lab.notes.batch_size.note import NOTE
from lightwell.lab.notes.batch_size.pictures import draw
from lightwell.lab.verdicts.statistics import fit_line
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.training.planning.memory import saved_bytes

LONGEST, GLANCE = 600, 80
"""Steps of the base batch size at most: the largest batch takes four times the tokens at equal steps, and the smallest
four times the steps at equal tokens."""
SMALLEST = 0.02
"""Nats that matter."""
PACE_ROUNDS, PACE_STEPS = 6, 4
MEMORY_LINE = 0.999


@dataclass(frozen=True)
class Arm:
    """A batch size and how long it trains."""

    size: int
    steps: int

    @property
    def name(self) -> str:
        """In plain words."""
        return f"{self.size} sequences, {self.steps:,} steps"


@dataclass(frozen=True)
class Arms:
    """Each size for as many steps as the base size takes, and for as many tokens."""

    sizes: tuple[int, ...]
    equal_steps: tuple[Arm, ...]
    equal_tokens: tuple[Arm, ...]

    @classmethod
    def of(cls, context: ExperimentContext) -> Arms:
        """Return a quarter of the base size, itself, and four times as much, which a glance has no time for."""
        glance = context.budget.name == "glance"
        base, steps = context.config.batches.batch_size, min(context.budget.steps, GLANCE if glance else LONGEST)
        sizes = tuple(sorted({max(1, base // 4), base, *(() if glance else (base * 4,))}))
        return cls(
            sizes,
            tuple(Arm(size, steps) for size in sizes),
            tuple(Arm(size, max(1, steps * base // size)) for size in sizes),
        )

    @property
    def base(self) -> Arm:
        """Return the base size: as many steps are as many tokens there."""
        return next(arm for arm in self.equal_steps if arm in self.equal_tokens)

    @property
    def all(self) -> list[Arm]:
        """Return each once: the base size is in both. Those of equal seconds are apart, since each machine has its own."""
        return list(dict.fromkeys([*self.equal_steps, *self.equal_tokens]))


def settings_of(context: ExperimentContext, arm: Arm) -> dict[str, Any]:
    """Return what an arm replaces; the warm-up takes a quarter of a short training at most."""
    warmup = min(context.config.training.warmup_steps, arm.steps // 4)
    return {"batch_size": arm.size, "micro_batch_size": 0, "steps": arm.steps, "warmup_steps": warmup}


def first_rate(context: ExperimentContext, arm: Arm) -> float:
    """Return the middle of an arm's grid: for Adam it grows with sqrt(B) (Malladi et al. 2022, arXiv 2205.10287)."""
    return float(context.config.training.learning_rate * (arm.size / context.config.batches.batch_size) ** 0.5)


def plan(context: ExperimentContext) -> list[Trial]:
    """Return each arm's search for a learning rate, and its trainings on the seeds that count."""
    refuse_too_large(context)
    trials = []
    arms = Arms.of(context)
    for arm in dict.fromkeys([*arms.all, *equal_seconds(arms, paces(context, arms))]):
        trials += context.planned(arm.name, first_rate(context, arm), **settings_of(context, arm))
    return trials


def run(context: ExperimentContext) -> Findings:
    """Noise and memory with weights fixed, then trainings by batch size."""
    noise = gradient_noise(context)
    sizes = list(SIZES)
    memory = context.measure("memory", lambda: [saved_bytes(context.config, B) for B in sizes], sizes=sizes)
    errors = context.measure("micro-batches", lambda: micro_batch_error(context), seed=context.seed)
    arms = Arms.of(context)
    results, rates = train_all(context, arms.all)
    data = {
        "sizes": sizes,
        "noise": noise,
        "memory": memory,
        "micro_batches": errors,
        "arms": {arm.name: arm_data(arm, results[arm], rates[arm]) for arm in arms.all},
        "equal_steps": [arm.name for arm in arms.equal_steps],
        "equal_tokens": [arm.name for arm in arms.equal_tokens],
    }
    return Findings(
        laws=[*noise_laws(noise), *memory_laws(sizes, memory), *identity_laws(errors)],
        claims=claims_of(arms, results),
        data=data,
        timings=seconds_data(context, arms),
        remarks=remarks_of(context, noise, memory),
    )


def train_all(context: ExperimentContext, arms: Sequence[Arm]) -> tuple[dict[Arm, list[Trained]], dict[Arm, float]]:
    """Return each arm's results on all seeds, and its learning rate."""
    results, rates = {}, {}
    for arm in arms:
        settings = settings_of(context, arm)
        rates[arm] = context.tuned(arm.name, first_rate(context, arm), **settings)
        results[arm] = context.trained(arm.name, learning_rate=rates[arm], **settings)
    return results, rates


def arm_data(arm: Arm, results: Sequence[Trained], rate: float) -> dict[str, Any]:
    """Return an arm's numbers, seed by seed."""
    return {
        **asdict(arm),
        "learning_rate": rate,
        "tokens": results[0].tokens,
        "loss": [result.loss for result in results],
        "train_loss": [result.train_loss for result in results],
        "bits_per_byte": [result.bits_per_byte for result in results],
        "validations": [result.validations for result in results],
    }


def claims_of(arms: Arms, results: Mapping[Arm, Sequence[Trained]]) -> list[Claim]:
    """Return the two predictions, between the smallest and the largest batch."""

    def compared(first: Arm, second: Arm, kind: str) -> Claim:
        text = f"At equal {kind}, batches of {first.size} end lower than batches of {second.size}"
        losses = [[result.loss for result in results[arm]] for arm in (first, second)]
        return Claim.of(text, Rule("lower", SMALLEST), differences(*losses))

    return [
        compared(arms.equal_steps[-1], arms.equal_steps[0], "steps"),
        compared(arms.equal_tokens[0], arms.equal_tokens[-1], "tokens"),
    ]


def memory_laws(sizes: Sequence[int], memory: Sequence[int]) -> list[Law]:
    """Return the line, and that no batch size is off it; with attention dropout a single sequence keeps a little less."""
    line = fit_line(sizes, memory)
    per_sequence, start = (memory[-1] - memory[1]) / (sizes[-1] - sizes[1]), sizes[1]
    off = [size - memory[1] - per_sequence * (B - start) for B, size in zip(sizes[1:], memory[1:], strict=True)]
    return [
        Law.above("R^2 of bytes saved for the backward pass against B", line.r_squared, MEMORY_LINE),
        Law.near(f"Bytes that any B from {start} on is off a straight line, at most", max(map(abs, off)), 0, 0),
    ]


def identity_laws(errors: Mapping[str, float]) -> list[Law]:
    """Micro-batches give the gradient of the batch; averaging their means does not where they count unequally."""
    return [
        Law.below("Micro-batches' summed gradient beside the batch's, relative", errors["equal"], SAME),
        Law.below(
            "Micro-batches' summed gradient, where rows count unequal numbers of tokens, relative",
            errors["unequal"],
            SAME,
        ),
        Law.above(
            "A usual mistake: the gradient of micro-batches' averaged mean losses, there, relative",
            errors["averaged"],
            SAME,
        ),
    ]


def paces(context: ExperimentContext, arms: Arms) -> dict[str, list[float]]:
    """Return seconds of a training step of each size, round by round; by name of the size."""

    def work() -> dict[str, list[float]]:
        trials = {str(size): context.trial("pace", 0, batch_size=size, micro_batch_size=0) for size in arms.sizes}
        return seconds_per_step(trials, context.corpus, PACE_ROUNDS, PACE_STEPS)

    found: dict[str, list[float]] = context.measure("pace", work, sizes=list(arms.sizes))
    return found


def equal_seconds(arms: Arms, paces: Mapping[str, Sequence[float]]) -> list[Arm]:
    """Return each size for as many seconds of training steps as the base size takes for its steps, by their paces here."""
    seconds = base_seconds(arms, paces)
    return [Arm(size, max(1, round(seconds / float(np.median(paces[str(size)]))))) for size in arms.sizes]


def base_seconds(arms: Arms, paces: Mapping[str, Sequence[float]]) -> float:
    """Return what the base size's steps take."""
    return arms.base.steps * float(np.median(paces[str(arms.base.size)]))


def seconds_data(context: ExperimentContext, arms: Arms) -> dict[str, Any]:
    """Return the losses at equal seconds, each at the end of its own decayed schedule and at its own learning rate."""
    context = dataclasses.replace(context, tunings={})  # apart: these arms are this machine's
    pace = paces(context, arms)
    found = equal_seconds(arms, pace)
    results, rates = train_all(context, found)
    return {
        "seconds_per_step": pace,
        "equal_seconds": base_seconds(arms, pace),
        "equal_seconds_arms": [arm_data(arm, results[arm], rates[arm]) for arm in found],
        "seconds": {arm.name: [result.seconds for result in results[arm]] for arm in found},
        "learning_rates": context.tunings,
    }


def remarks_of(context: ExperimentContext, noise: Sequence[Mapping[str, Any]], memory: Sequence[int]) -> list[str]:
    """Return how it was done."""
    scales = "; ".join(f"{state['name']} {scale_words(state['line'])}, of the whole pool "
                       f"{scale_words(state['of_pool'])}" for state in noise)  # fmt: skip
    per_sequence = (memory[-1] - memory[1]) / (SIZES[-1] - SIZES[1])
    tuned = (
        "Learning rates were not retuned, which this budget forbids, but scaled with sqrt(B)"
        if context.budget.rates == 1
        else f"The learning rate of each arm is the best of {context.budget.rates} around one that is scaled with "
        "sqrt(B), on a seed of its own"
    )
    return [
        f"Noise scale B_simple in sequences, with weights fixed, and its 95 % interval: {scales}.",
        f"Batches for the noise are drawn from a pool of {noise[0]['pool']} windows that do not overlap, without "
        "replacement inside a batch. That leaves the line's slope and intercept unbiased; the intervals are of the "
        "draws, and hold the pool fixed.",
        f"Each sequence of a micro-batch keeps {per_sequence / 1e6:.3g} MB for the backward pass. Gradients of "
        "micro-batches add up to the batch's, so that memory limits micro_batch_size, not batch_size.",
        f"{tuned}. beta2 is {context.config.training.beta2:g} in all arms, so that Adam's memory is shorter in tokens "
        "for small batches.",
        "At equal seconds each size trains for as many steps as take the time that the base size takes, by steps that "
        "were timed side by side on this machine; those numbers are under the timings, and are no claim.",
    ]


EXPERIMENT = Experiment(NOTE, plan, run, draw)
