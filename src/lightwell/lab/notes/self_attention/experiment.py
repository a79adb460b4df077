"""Note 3, self-attention as scaled dot product: what a high score means, and when the scaling matters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.rate_search import TunedArm, tune_and_train, tuning_words
from lightwell.lab.experiments.skipping import skipping
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.self_attention.influence import inside
from lightwell.lab.notes.self_attention.note import NOTE
from lightwell.lab.notes.self_attention.pictures import draw
from lightwell.lab.notes.self_attention.saturation import crossing, saturation
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap
from lightwell.training.settings.config import RunConfig

SMALLEST = 0.02
"""Nats per token that matter."""
SMALLEST_RANK = 0.05
"""A difference of rank correlations that matters."""
MOST_STEPS = 300
"""Steps of a training at most, since there are many arms with a learning rate of their own."""
GLANCE_STEPS = 96
SMALL_HEAD, LARGE_HEAD = 8, 64
HEAD_SIZES = {"night": (8, 16, 32, 64, 128)}
"""The head sizes of a budget; others have the small and the large one."""
# T = 64 keys, q and k of N(0, 1): means of 40 samples of 4,096 rows, and five standard deviations of one such sample.
# Medians of large heads vary most, since rows are either saturated or not.
SATURATED = {64: (0.1915, 0.03), 256: (0.477, 0.041)}
ENTROPY = {4: (0.675, 0.024), 16: (0.3314, 0.012), 64: (0.1408, 0.01), 256: (0.0636, 0.006)}
SCALED_ENTROPY = (0.8875, 0.012)
GRADIENT = {8: (0.3055, 0.005), 16: (0.3291, 0.008), 32: (0.3078, 0.02), 64: (0.1991, 0.031), 128: (0.0866, 0.03),
            256: (0.0237, 0.0115)}  # fmt: skip
CROSSING = (70.7, 8.2)


def unscaled() -> Tap:
    """Return the change by which scores pass on without the division by sqrt(d_k)."""
    return skipping("scaled", back_to="scores")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train: a head size, scaled or not, from small weights or from ones that give unit variance."""

    size: int
    scaling: str
    unit: bool = False

    @property
    def name(self) -> str:
        """Return the arm in plain words."""
        return f"{self.scaling}, head size {self.size}{', unit variance at the start' if self.unit else ''}"

    def settings(self, context: ExperimentContext) -> dict[str, Any]:
        """Return what it replaces; q and k have components of variance 1 where the weights have 1 / d_model."""
        start = {"init_std": 1.0 / math.sqrt(context.config.model.d_model)} if self.unit else {}
        change = "unscaled" if self.scaling == "unscaled" else ""
        most = GLANCE_STEPS if context.budget.name == "glance" else MOST_STEPS
        steps = min(most, context.config.training.steps)
        return {"head_dim": self.size, "qk_norm": False, "attention": "explicit", "steps": steps, "change": change,
                **start}  # fmt: skip

    def probing(self) -> dict[str, Any]:
        """Return the probe of the scaled small heads; the others have none."""
        probed = self.scaling == "scaled" and self.size == SMALL_HEAD and not self.unit
        return {"probe": "inside", "probes": 1} if probed else {}


def pairs(context: ExperimentContext) -> list[tuple[int, bool]]:
    """Return head sizes, and whether from unit variance; a glance has no time for the latter."""
    sizes = [(size, False) for size in HEAD_SIZES.get(context.budget.name, (SMALL_HEAD, LARGE_HEAD))]
    return sizes if context.budget.name == "glance" else [*sizes, (LARGE_HEAD, True)]


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two arms of a head size, each at its own learning rate."""

    size: int
    unit: bool
    scaled: TunedArm
    unscaled: TunedArm

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        arms = {"scaled": self.scaled, "unscaled": self.unscaled}
        rates = {name: arm.rate for name, arm in arms.items()}
        return {
            "size": self.size,
            "unit": self.unit,
            "rates": rates,
            **{name: arm.losses for name, arm in arms.items()},
        }


def trainings(context: ExperimentContext) -> list[Pair]:
    """Train scaled and unscaled for each pair."""

    def train(arm: Arm) -> TunedArm:
        return tune_and_train(context, arm.name, arm.settings(context), probing=arm.probing())

    return [
        Pair(size, unit, train(Arm(size, "scaled", unit)), train(Arm(size, "unscaled", unit)))
        for size, unit in pairs(context)
    ]


def findings(context: ExperimentContext, trained: Sequence[Pair]) -> Findings:
    """Judge random vectors, the inside of trained models, and the pairs."""
    random_vectors = context.measure(
        "saturation", lambda: saturation(2 * context.budget.draws, context.seed), seed=context.seed
    )
    probed_runs = next(pair for pair in trained if pair.size == SMALL_HEAD and not pair.unit).scaled.runs
    views = [run.probed[-1][1] for run in probed_runs]
    heads = [head for view in views for head in view["heads"]]
    data = {
        "saturation": random_vectors,
        "crossing": crossing(random_vectors),
        "heads": [view["heads"] for view in views],
        "rows": views[0]["rows"],
        "at_start": start_numbers(probed_runs),
        "edges": [[{k: edge[k] for k in ("layer", "head", "weight_rank", "moved_rank")} for edge in view["edges"]]
                  for view in views],
        "map": max(views[0]["edges"], key=lambda edge: float(np.sum(edge["effect"]))),
        "pairs": [pair.to_dict() for pair in trained],
    }  # fmt: skip
    return Findings(
        laws=[*random_laws(random_vectors), *trained_laws(heads)],
        claims=[*order_claims(data["heads"]), *map(claim_of, trained)],
        data=data,
        remarks=remarks_of(context, data),
    )


def probe_inside(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Read the numbers of `inside` on the first window of the held-out text."""
    ids = corpus.held_out.take(np.arange(config.model.context_length))
    return inside(model, torch.from_numpy(ids)[None].to(model.token_embedding.weight.device))


def claim_of(pair: Pair) -> Claim:
    """Return what is claimed of a pair: scaled less unscaled, seed by seed."""
    points = differences(pair.scaled.losses, pair.unscaled.losses)
    start = ", started with unit variance" if pair.unit else ""
    if pair.size < LARGE_HEAD:
        text = f"Scaling changes the held-out loss by no more than {SMALLEST:g} at d_k = {pair.size}{start}"
        return Claim.of(text, Rule("none", SMALLEST), points, beside=True)
    text = f"Scaling lowers the held-out loss at d_k = {pair.size}{start}"
    return Claim.of(text, Rule("lower", SMALLEST), points, beside=True)


def order_claims(heads: Sequence[Sequence[Mapping[str, float]]]) -> list[Claim]:
    """Return the claims of the note's sentence, on real activations: heads (seeds, heads), a point for each model.

    Weights follow dot products within a row, and across rows, and it is similarity that they follow.
    """
    within, across, cosine = ([_mean(row, name) for row in heads] for name in ("within", "across", "cosine"))
    rule = Rule("none", SMALLEST_RANK, "of rank correlation")
    return [
        Claim.of("Within a row, the higher dot product has the higher weight: their rank correlation less 1",
                 rule, [value - 1.0 for value in within]),
        Claim.of("Across rows it has, too: their rank correlation less that within rows", rule,
                 differences(across, within)),
        Claim.of("It is similarity that counts: the rank correlation of cosine and weight within a row less that of "
                 "dot product and weight", rule, differences(cosine, within)),
    ]  # fmt: skip


def random_laws(random_vectors: Sequence[Mapping[str, Any]]) -> list[Law]:
    """Return the laws of random vectors."""
    by_size = {row["size"]: row for row in random_vectors}
    spread = [row["std"] / math.sqrt(row["size"]) for row in random_vectors]
    entropies = [row["scaled"]["entropy"] for row in random_vectors]
    sizes = list(by_size)
    return [
        Law.near(f"std(q . k) / sqrt(d_k), the farthest from 1 of d_k = {sizes[0]} to {sizes[-1]}",
                 max(spread, key=lambda value: abs(value - 1.0)), 1.0, 0.05),
        *(Law.near(f"Unscaled, d_k = {d}: share of rows with a weight above 0.99", by_size[d]["unscaled"]["saturated"],
                   *expected) for d, expected in SATURATED.items()),
        Law.below("Scaled: the largest such share of all d_k",
                  max(row["scaled"]["saturated"] for row in random_vectors), 0.001),
        *(Law.near(f"Unscaled, d_k = {d}: entropy / ln 64", by_size[d]["unscaled"]["entropy"], *expected)
          for d, expected in ENTROPY.items()),
        Law.near("Scaled: entropy / ln 64, the farthest of all d_k",
                 max(entropies, key=lambda value: abs(value - SCALED_ENTROPY[0])), *SCALED_ENTROPY),
        *(Law.near(f"Unscaled, d_k = {d}: median norm of softmax's Jacobian", by_size[d]["unscaled"]["gradient"],
                   *expected) for d, expected in GRADIENT.items()),
        Law.above("Unscaled gradient of softmax divided by the scaled one, d_k = 8", _ratio(by_size[8]), 1.0),
        Law.above("Unscaled gradient of softmax divided by the scaled one, d_k = 32", _ratio(by_size[32]), 1.0),
        Law.below("Unscaled gradient of softmax divided by the scaled one, d_k = 128", _ratio(by_size[128]), 1.0),
        Law.near("The d_k from which on the unscaled gradient is the smaller one",
                 crossing(list(map(dict, random_vectors))), *CROSSING),
    ]  # fmt: skip


def trained_laws(heads: Sequence[Mapping[str, float]]) -> list[Law]:
    """Return the laws of every head of the trained models, on real text."""
    return [
        Law.near("Within a row, rank correlation of score and weight: the lowest of all rows and heads",
                 min(head["within"] for head in heads), 1.0, 1e-3),
        Law.above("Asymmetry of q_i . k_j, 0 where it is that of k_i . q_j: the least of all heads",
                  min(head["asymmetry"] for head in heads), 1e-3),
        Law.below("A constant added to each row of scores: the largest change of a weight (fp64)",
                  max(head["shifted"] for head in heads), 1e-6),
    ]  # fmt: skip


def _ratio(row: Mapping[str, Any]) -> float:
    return float(row["unscaled"]["gradient"] / row["scaled"]["gradient"])


def start_numbers(runs: Sequence[Trained]) -> dict[str, dict[str, float]]:
    """Return the spread of q and k and of their dot products, untrained and trained, over all heads."""
    names = ("component_std", "score_std")
    return {
        when: {name: float(np.mean([head[name] for run in runs for head in run.probed[at][1]["heads"]]))
               for name in names}
        for when, at in (("untrained", 0), ("trained", -1))
    }  # fmt: skip


def remarks_of(context: ExperimentContext, data: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know."""
    edges = [edge for view in data["edges"] for edge in view]
    heads = [head for view in data["heads"] for head in view]
    steps = Arm(SMALL_HEAD, "scaled").settings(context)["steps"]
    before, after = data["at_start"]["untrained"], data["at_start"]["trained"]
    return [
        f"Each training has {steps} steps; each arm has as many tokens. {tuning_words(context)}",
        f"Weight and influence of an edge (removed before softmax; KL divergence of the predictions): rank "
        f"correlation {_mean(edges, 'weight_rank'):.2f} on average over {len(edges)} heads, from "
        f"{min(e['weight_rank'] for e in edges):.2f} to {max(e['weight_rank'] for e in edges):.2f}; with |a v W_O| in "
        f"place of the weight {_mean(edges, 'moved_rank'):.2f}.",
        f"Across rows, score and weight have a rank correlation of {_mean(heads, 'across'):.2f} on average; within "
        f"rows, cosine similarity and weight have {_mean(heads, 'cosine'):.2f}, since key norms count (they vary by "
        f"{_mean(heads, 'key_norm_variation'):.0%}).",
        f"The argument for sqrt(d_k) starts from q and k with components of variance 1. Here they start at a standard "
        f"deviation of {before['component_std']:.2f} and end at {after['component_std']:.2f}, their products go from "
        f"{before['score_std']:.2f} to {after['score_std']:.2f} (d_k = {SMALL_HEAD}): weights that start small keep "
        "unscaled scores from saturating at first.",
    ]  # fmt: skip


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


EXPERIMENT = Experiment(
    NOTE, trainings, findings, draw, changes={"unscaled": unscaled}, probes={"inside": probe_inside}
)
