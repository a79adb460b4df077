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
from lightwell.lab.experiments.rate_search import TunedArm, tune_and_train
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
"""Nats per token that matter."""
PACE_ROUNDS, PACE_STEPS = 6, 4
MEMORY_LINE = 0.999


@dataclass(frozen=True)
class Arm:
    """A batch size and how long it trains."""

    size: int
    steps: int

    @property
    def name(self) -> str:
        """Return the arm in plain words."""
        return f"{self.size} sequences, {self.steps:,} steps"


@dataclass(frozen=True)
class Arms:
    """Each size for as many steps as the base size takes, and for as many tokens."""

    sizes: tuple[int, ...]
    equal_steps: tuple[Arm, ...]
    equal_tokens: tuple[Arm, ...]

    @classmethod
    def of(cls, context: ExperimentContext) -> Arms:
        """Return the arms of the base size, a quarter and four times of it; a glance has no time for the largest."""
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
        """Return the arm of the base size, for which as many steps are as many tokens."""
        return next(arm for arm in self.equal_steps if arm in self.equal_tokens)

    @property
    def all(self) -> list[Arm]:
        """Return each once (the base size is in both); those of equal seconds are apart, since machines differ."""
        return list(dict.fromkeys([*self.equal_steps, *self.equal_tokens]))


def settings_of(context: ExperimentContext, arm: Arm) -> dict[str, Any]:
    """Return what an arm replaces; the warm-up takes a quarter of a short training at most."""
    warmup = min(context.config.training.warmup_steps, arm.steps // 4)
    return {"batch_size": arm.size, "micro_batch_size": 0, "steps": arm.steps, "warmup_steps": warmup}


def first_rate(context: ExperimentContext, arm: Arm) -> float:
    """Return the middle of an arm's grid: for Adam it grows with sqrt(B) (Malladi et al. 2022, arXiv 2205.10287)."""
    return float(context.config.training.learning_rate * (arm.size / context.config.batches.batch_size) ** 0.5)


@dataclass(frozen=True)
class Trainings:
    """What was trained, each arm at its own learning rate."""

    arms: Mapping[Arm, TunedArm]
    """The arms at equal steps and at equal tokens."""
    equal_seconds: Mapping[Arm, TunedArm]
    """The arms that take as long as the base size, by this machine's pace."""
    equal_seconds_tunings: Mapping[str, Any]
    """How the rates of the latter were chosen; they are this machine's, and so apart from the others."""


def trainings(context: ExperimentContext) -> Trainings:
    """Train each size for as many steps, tokens and seconds as the base size takes."""
    arms, apart = Arms.of(context), dataclasses.replace(context, tunings={})

    def train(context: ExperimentContext, chosen: Sequence[Arm]) -> dict[Arm, TunedArm]:
        return {
            arm: tune_and_train(context, arm.name, settings_of(context, arm), first_rate(context, arm))
            for arm in chosen
        }

    return Trainings(
        train(context, arms.all), train(apart, equal_seconds(arms, paces(context, arms))), apart.tunings
    )  # fmt: skip


def findings(context: ExperimentContext, trained: Trainings) -> Findings:
    """Measure noise and memory with weights fixed, and judge the trainings by batch size."""
    noise = gradient_noise(context)
    sizes = list(SIZES)
    memory = context.measure("memory", lambda: [saved_bytes(context.config, B) for B in sizes], sizes=sizes)
    errors = context.measure("micro-batches", lambda: micro_batch_error(context), seed=context.seed)
    arms = Arms.of(context)
    data = {
        "sizes": sizes,
        "noise": noise,
        "memory": memory,
        "micro_batches": errors,
        "arms": {arm.name: arm_data(arm, tuned) for arm, tuned in trained.arms.items()},
        "equal_steps": [arm.name for arm in arms.equal_steps],
        "equal_tokens": [arm.name for arm in arms.equal_tokens],
    }
    pace = paces(context, arms)
    timings = {
        "seconds_per_step": pace,
        "equal_seconds": base_seconds(arms, pace),
        "equal_seconds_arms": [arm_data(arm, tuned) for arm, tuned in trained.equal_seconds.items()],
        "seconds": {arm.name: [run.seconds for run in tuned.runs] for arm, tuned in trained.equal_seconds.items()},
        "learning_rates": trained.equal_seconds_tunings,
    }
    return Findings(
        laws=[*noise_laws(noise), *memory_laws(sizes, memory), *identity_laws(errors)],
        claims=claims_of(arms, trained.arms),
        data=data,
        timings=timings,
        remarks=remarks_of(context, noise, memory),
    )


def arm_data(arm: Arm, tuned: TunedArm) -> dict[str, Any]:
    """Return an arm's numbers, seed by seed."""
    return {
        **asdict(arm),
        "learning_rate": tuned.rate,
        "tokens": tuned.runs[0].tokens,
        "loss": tuned.losses,
        "train_loss": [run.train_loss for run in tuned.runs],
        "bits_per_byte": [run.bits_per_byte for run in tuned.runs],
        "validations": [run.held_out_losses for run in tuned.runs],
    }


def claims_of(arms: Arms, trained: Mapping[Arm, TunedArm]) -> list[Claim]:
    """Return the two claims, on the smallest and the largest batch."""

    def compared(first: Arm, second: Arm, kind: str) -> Claim:
        text = f"At equal {kind}, batches of {first.size} end lower than batches of {second.size}"
        return Claim.of(text, Rule("lower", SMALLEST), differences(trained[first].losses, trained[second].losses))

    return [
        compared(arms.equal_steps[-1], arms.equal_steps[0], "steps"),
        compared(arms.equal_tokens[0], arms.equal_tokens[-1], "tokens"),
    ]


def memory_laws(sizes: Sequence[int], memory: Sequence[int]) -> list[Law]:
    """Return the laws of a straight line, from two sequences on: one keeps a little less with attention dropout."""
    line = fit_line(sizes, memory)
    per_sequence, start = (memory[-1] - memory[1]) / (sizes[-1] - sizes[1]), sizes[1]
    off = [size - memory[1] - per_sequence * (B - start) for B, size in zip(sizes[1:], memory[1:], strict=True)]
    return [
        Law.above("R^2 of bytes saved for the backward pass against B", line.r_squared, MEMORY_LINE),
        Law.near(f"Bytes that any B from {start} on is off a straight line, at most", max(map(abs, off)), 0, 0),
    ]


def identity_laws(errors: Mapping[str, float]) -> list[Law]:
    """Return the laws of micro-batches: they give the batch's gradient; averaged means of unequal ones do not."""
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
    """Return the seconds of a training step of each size, round by round, by the name of the size."""

    def work() -> dict[str, list[float]]:
        trials = {str(size): context.trial("pace", 0, batch_size=size, micro_batch_size=0) for size in arms.sizes}
        return seconds_per_step(trials, context.corpus, PACE_ROUNDS, PACE_STEPS)

    seconds: dict[str, list[float]] = context.measure("pace", work, sizes=list(arms.sizes))
    return seconds


def equal_seconds(arms: Arms, paces: Mapping[str, Sequence[float]]) -> list[Arm]:
    """Return each size for as many seconds as the base size takes for its steps, by their paces here."""
    seconds = base_seconds(arms, paces)
    return [Arm(size, max(1, round(seconds / float(np.median(paces[str(size)]))))) for size in arms.sizes]


def base_seconds(arms: Arms, paces: Mapping[str, Sequence[float]]) -> float:
    """Return the seconds that the base size's steps take."""
    return arms.base.steps * float(np.median(paces[str(arms.base.size)]))


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


EXPERIMENT = Experiment(NOTE, trainings, findings, draw, check=refuse_too_large)
