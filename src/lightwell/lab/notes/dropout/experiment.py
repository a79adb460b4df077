"""Note 5, dropout: what it does to rows of attention weights, when it is off, and how often a text must be repeated
before it helps.

The number of steps, and so of tokens, is the same in every training; fewer tokens of text make more passes over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.prefix import tokens_for
from lightwell.lab.experiments.rate_search import LearningRateSearch, tuning_words
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.lab.notes.dropout.note import NOTE
from lightwell.lab.notes.dropout.pictures import draw
from lightwell.lab.notes.dropout.row_sums import probe_modes, probe_rows
from lightwell.lab.verdicts.crossing import crossing_of
from lightwell.lab.verdicts.statistics import paired_effect
from lightwell.lab.verdicts.verdict import Claim, Law, Rule

EPOCHS = (1.0, 5.0, 20.0, 60.0)
P = 0.2
"""The p of the claims."""
ROWS_P = 0.1
"""The p of the row sums, where the spread of the first row is 1/3."""
MOST_STEPS = 500
"""Steps of a training at most: so many arms leave no time for more."""
FEW_SEEDS = 2
"""Seeds of arms that no claim is about."""
SMALLEST = 0.02
"""Nats: less than half of what 0.1 of dropout cost a 163 M model in one pass (3.692 against 3.641)."""


@dataclass(frozen=True)
class Cell:
    """An arm: how much dropout, where, and how many passes over its part of the text."""

    p: float
    epochs: float
    everywhere: bool = True
    """Whether it is on attention weights and on both branches of each block; else it is on attention weights alone."""

    @property
    def where(self) -> str:
        """Return where the dropout is, in words."""
        return "weights and branches" if self.everywhere else "attention weights alone"

    @property
    def arm(self) -> str:
        """Return the arm's name."""
        return f"dropout {self.p:g} on {self.where}, {self.epochs:.3g} epochs"

    @property
    def counts(self) -> bool:
        """Return whether a claim is about it."""
        return self.everywhere and self.p in (0.0, P)


def epochs_of(context: ExperimentContext) -> list[float]:
    """Return the passes over the text that are compared: from 1, or as many as the whole text takes, upwards."""
    wanted = (1.0, 20.0) if context.budget.name == "glance" else EPOCHS
    fewest = presented(context) / len(context.corpus.train)
    return sorted({max(fewest, wanted[0])} | {epochs for epochs in wanted if epochs > fewest})


def cells_of(context: ExperimentContext) -> list[Cell]:
    """Return the cells of the claims first; at night also other p, and dropout on the attention weights alone."""
    epochs = epochs_of(context)
    cells = [Cell(p, each) for each in epochs for p in (0.0, P)]
    if context.budget.name == "night":
        cells += [Cell(p, each) for each in epochs for p in (0.1, 0.4)]
        cells += [Cell(P, each, everywhere=False) for each in (epochs[0], epochs[-1])]
    return cells


def steps_of(context: ExperimentContext) -> int:
    """Return the steps of each training."""
    return min(context.config.training.steps, MOST_STEPS)


def presented(context: ExperimentContext) -> int:
    """Return how many tokens each training sees, repeats counted."""
    return steps_of(context) * context.config.batches.batch_size * context.config.model.context_length


def settings_of(context: ExperimentContext, cell: Cell) -> dict[str, Any]:
    """Return what the cell changes in the base configuration."""
    return {
        "attention_dropout": cell.p,
        "residual_dropout": cell.p if cell.everywhere else 0.0,
        "embedding_dropout": 0.0,
        "steps": steps_of(context),
        "stride": 0,
        "sampler": "windows",
        "document_boundaries": "cross",
        "prefix_tokens": tokens_for(presented(context), context.config.model.context_length, cell.epochs),
    }


def seeds_of(context: ExperimentContext, cell: Cell) -> Sequence[int]:
    """Return all seeds that count for a cell that a claim is about, few for the others."""
    return context.seeds if cell.counts else context.seeds[:FEW_SEEDS]


def rows_trial(context: ExperimentContext) -> Trial:
    """Return the training of the model whose rows are summed: dropout on the attention weights alone, one seed."""
    cell = Cell(ROWS_P, epochs_of(context)[0], everywhere=False)
    return context.trial(
        "the model whose rows are summed", context.seed, probe="rows", probes=1, **settings_of(context, cell)
    )


@dataclass(frozen=True)
class Trainings:
    """What was trained."""

    rows: Trained
    """The model whose rows are summed."""
    cells: Mapping[Cell, list[Trained]]


def trainings(context: ExperimentContext) -> Trainings:
    """Train the model whose rows are summed, and all cells at the learning rates of those that claims are about."""
    rows = context.train(rows_trial(context))
    rates: dict[Cell, float] = {}
    cells: dict[Cell, list[Trained]] = {}
    for cell in cells_of(context):
        if cell.counts:
            rates[cell] = LearningRateSearch(context, cell.arm, settings_of(context, cell)).best()
        # The other amounts of dropout take the rate of P.
        rate = rates[cell if cell.counts else Cell(P, cell.epochs)]
        cells[cell] = [context.train(cell_trial(context, cell, rate, seed)) for seed in seeds_of(context, cell)]
    return Trainings(rows, cells)


def cell_trial(context: ExperimentContext, cell: Cell, rate: float, seed: int) -> Trial:
    """Return a cell's training; where there is dropout, both modes are probed in the end."""
    probing: dict[str, Any] = {"probe": "modes", "probes": 1} if cell.p else {}
    return context.trial(cell.arm, seed, **settings_of(context, cell), **probing, learning_rate=rate)


def findings(context: ExperimentContext, trained: Trainings) -> Findings:
    """Judge row sums and modes as laws, and the effect at fewest and most passes as claims."""
    rows, cells = trained.rows.probed[-1][1], trained.cells
    epochs = epochs_of(context)
    effects = {each: differences(losses(cells[Cell(P, each)]), losses(cells[Cell(0.0, each)])) for each in epochs}
    crossing = crossing_of(epochs, [effects[each] for each in epochs])
    modes = [run.probed[-1][1] for cell, runs in cells.items() if cell.p for run in runs]
    data = {
        "rows": rows,
        "modes": modes,
        "cells": [cell_data(cell, runs) for cell, runs in cells.items()],
        "effects": [effect_data(each, effects[each]) for each in epochs],
        "crossing": crossing.to_dict(),
        "p": P,
        "smallest": SMALLEST,
        "tokens": presented(context),
    }
    return Findings(
        laws=[*row_laws(rows), *mode_laws(modes)],
        claims=claims_of(effects),
        data=data,
        remarks=remarks_of(context, data),
    )


def losses(runs: Sequence[Trained]) -> list[float]:
    """Return the held-out losses, seed by seed."""
    return [run.loss for run in runs]


def claims_of(effects: Mapping[float, Sequence[float]]) -> list[Claim]:
    """Return the note's claim at the fewest and at the most passes: it names no condition, so it predicts the same."""
    fewest, most = min(effects), max(effects)
    rule = Rule("lower", SMALLEST)
    # On a short text both are one.
    passes = {each: f"{each:.3g} passes" if each != 1.0 else "one pass" for each in (most, fewest)}
    return [
        Claim.of(f"In {words} over the text, dropout {P:g} lowers the held-out loss", rule, effects[each])
        for each, words in passes.items()
    ]


def row_laws(rows: Mapping[str, Any]) -> list[Law]:
    """Return the laws of the sums of rows of attention weights after dropout, by the formula."""
    mean, spread, predicted = (np.array(rows[name]) for name in ("mean", "spread", "predicted"))
    draws, p = rows["draws"], rows["p"]
    first_draws = draws * len(mean)  # the first row is the same in each head
    first = math.sqrt(float(np.square(spread[:, 0]).mean()))
    # The standard error of a standard deviation: SD x sqrt((kurtosis - 1) / (4 n)); here of a yes or no.
    kurtosis = 3.0 + (1.0 - 6.0 * p * (1.0 - p)) / (p * (1.0 - p))
    first_error = math.sqrt(p / (1.0 - p)) * math.sqrt((kurtosis - 1.0) / (4.0 * first_draws))
    mean_error = math.sqrt(float(np.square(predicted).mean()) / (draws * mean.size))
    return [
        Law.near(f"Mean sum of {mean.size} rows of real attention weights after dropout {ROWS_P:g}",
                 float(mean.mean()), 1.0, 4.0 * mean_error),
        Law.near("Measured spread of a row's sum beside sqrt(p/(1-p) x sum of squares), mean ratio of all rows",
                 float((spread / predicted).mean()), 1.0, 0.02),
        Law.near(f"Measured beside predicted spread, the row that is farthest off ({draws:,} draws)",
                 float(max((spread / predicted).flatten(), key=lambda ratio: abs(ratio - 1.0))), 1.0,
                 5.0 * math.sqrt((kurtosis - 1.0) / (4.0 * draws))),
        Law.near("Spread of the first row's sum, which is a single weight",
                 first, math.sqrt(p / (1.0 - p)), 4.0 * first_error),
        Law.near("Share of draws in which the first row is all zero",
                 rows["first row empty"], p, 4.0 * math.sqrt(p * (1.0 - p) / first_draws)),
        Law.near("Kept weights that are not exactly the weight x 1/(1-p)", rows["wrongly scaled"], 0, 0),
    ]  # fmt: skip


def mode_laws(modes: Sequence[Mapping[str, Any]]) -> list[Law]:
    """Return the laws of the two modes, for every trained model: dropout is off in evaluation and on in training."""
    count = len(modes)
    return [
        Law.near(f"Of {count} models with dropout, those that evaluate bit-identically twice",
                 sum(bool(mode["evaluation repeats"]) for mode in modes), count, 0),
        Law.near(f"Of {count} models with dropout, those that do so in training mode",
                 sum(bool(mode["training repeats"]) for mode in modes), 0, 0),
        Law.above("Loss on trained text with dropout on, less that with it off, nats per token: the smallest of all",
                  min(mode["on"] - mode["off"] for mode in modes), 0.0),
    ]  # fmt: skip


def cell_data(cell: Cell, runs: Sequence[Trained]) -> dict[str, Any]:
    """Return an arm's numbers."""
    return {
        "arm": cell.arm,
        "p": cell.p,
        "where": cell.where,
        "everywhere": cell.everywhere,
        "epochs": runs[0].effective_epochs,
        "losses": losses(runs),
        "train_losses": [run.train_loss for run in runs],
        "best": [min(loss for _, loss in run.held_out_losses) for run in runs],
        "tokens": runs[0].tokens,
    }


def effect_data(epochs: float, points: Sequence[float]) -> dict[str, Any]:
    """Return what dropout did at so many passes; without an interval where there is one seed."""
    effect = paired_effect(points)
    low, high = (effect.low, effect.high) if effect.n >= 2 else (effect.mean, effect.mean)
    return {"epochs": epochs, "points": list(points), "mean": effect.mean, "low": low, "high": high}


def remarks_of(context: ExperimentContext, data: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know."""
    on = [mode["on"] - mode["off"] for mode in data["modes"]]
    remarks = [
        f"Each training takes {steps_of(context)} steps and sees {presented(context):,} tokens; more passes means that "
        "they come from a shorter beginning of the text. Held out is the same in all of them.",
        "Dropout is on the attention weights, which the note names, and on both branches of each block, "
        "with the same p; the embeddings have none.",
        f"On the text that it learned from, a model with dropout on has a loss {np.mean(on):.3f} nats higher than the "
        f"same model with it off (mean of {len(on)}, {min(on):.3f} to {max(on):.3f}).",
        f"As passes grow, the difference that dropout makes {data['crossing']['sentence']} (95 % interval over "
        f"{context.budget.seeds} seeds; {100 * data['crossing']['found']:.0f} % of the draws change their sign within "
        f"what was measured), by a straight line in the logarithm of the passes between "
        f"{', '.join(f'{each:.3g}' for each in epochs_of(context))}.",
        tuning_words(context),
    ]
    alone = [cell for cell in data["cells"] if not cell["everywhere"]]
    if alone:
        remarks.append(
            f"Other p than {P:g}, and dropout on the attention weights alone, have {FEW_SEEDS} seeds and the learning "
            f"rate of p = {P:g}: they are drawn, and no claim is about them."
        )
    return remarks


PROBES = {"rows": probe_rows, "modes": probe_modes}
EXPERIMENT = Experiment(NOTE, trainings, findings, draw, probes=PROBES)
