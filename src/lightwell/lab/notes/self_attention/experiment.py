"""Note 3, self-attention as scaled dot product: what a high score means, and when the scaling matters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.skipping import skipping
from lightwell.lab.experiments.trial import Look, Trained, Trial
from lightwell.lab.notes.self_attention.influence import inside
from lightwell.lab.notes.self_attention.note import NOTE
from lightwell.lab.notes.self_attention.pictures import draw
from lightwell.lab.notes.self_attention.saturation import crossing, saturation
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap

SMALLEST = 0.02
"""Nats per token that matter."""
SMALLEST_RANK = 0.05
"""Of a rank correlation."""
MOST_STEPS = 300
"""Of a training here, since there are many arms with a learning rate of their own."""
GLANCE_STEPS = 96
SMALL_HEAD, LARGE_HEAD = 8, 64
HEAD_SIZES = {"night": (8, 16, 32, 64, 128)}
"""By budget; others have the small and the large one."""
SCALINGS = ("scaled", "unscaled")
# T = 64 keys, q and k of N(0, 1): means of 40 samples of 4,096 rows, and five standard deviations of one such sample.
# Medians of large heads vary most, since rows are either saturated or not.
SATURATED = {64: (0.1915, 0.03), 256: (0.477, 0.041)}
ENTROPY = {4: (0.675, 0.024), 16: (0.3314, 0.012), 64: (0.1408, 0.01), 256: (0.0636, 0.006)}
SCALED_ENTROPY = (0.8875, 0.012)
GRADIENT = {8: (0.3055, 0.005), 16: (0.3291, 0.008), 32: (0.3078, 0.02), 64: (0.1991, 0.031), 128: (0.0866, 0.03),
            256: (0.0237, 0.0115)}  # fmt: skip
CROSSING = (70.7, 8.2)


def unscaled() -> Tap:
    """Scores pass on without the division by sqrt(d_k)."""
    return skipping("scaled", back_to="scores")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train: a head size, scaled or not, from small weights or from ones that give unit variance."""

    size: int
    scaling: str
    unit: bool = False

    @property
    def name(self) -> str:
        """In plain words."""
        return f"{self.scaling}, head size {self.size}{', unit variance at the start' if self.unit else ''}"

    def settings(self, context: ExperimentContext) -> dict[str, Any]:
        """Beside the base; q and k have components of variance 1 where the weights have 1 / d_model."""
        start = {"init_std": 1.0 / math.sqrt(context.config.model.d_model)} if self.unit else {}
        change = "unscaled" if self.scaling == "unscaled" else ""
        most = GLANCE_STEPS if context.budget.name == "glance" else MOST_STEPS
        steps = min(most, context.config.training.steps)
        return {"head_dim": self.size, "qk_norm": False, "attention": "explicit", "steps": steps, "change": change,
                **start}  # fmt: skip

    def look(self) -> dict[str, Any]:
        """Return the scaled small heads are those that are looked into."""
        looked = self.scaling == "scaled" and self.size == SMALL_HEAD and not self.unit
        return {"look": "inside", "looks": 1} if looked else {}


def pairs(context: ExperimentContext) -> list[tuple[int, bool]]:
    """Head sizes, and whether from unit variance; a glance has no time for the latter."""
    sizes = [(size, False) for size in HEAD_SIZES.get(context.budget.name, (SMALL_HEAD, LARGE_HEAD))]
    return sizes if context.budget.name == "glance" else [*sizes, (LARGE_HEAD, True)]


def plan(context: ExperimentContext) -> list[Trial]:
    """Scaled and unscaled for each pair, with the learning rates that are tried."""
    trials = []
    for size, unit in pairs(context):
        for arm in (Arm(size, scaling, unit) for scaling in SCALINGS):
            trials += context.planned(arm.name, looked=arm.look(), **arm.settings(context))
    return trials


def run(context: ExperimentContext) -> Findings:
    """Random vectors, the inside of trained models, and the pairs."""
    context = dataclasses.replace(context, looks=looks_of(context))
    found = context.measure("saturation", lambda: saturation(2 * context.budget.draws, context.seed), seed=context.seed)
    trained = {(size, unit): pair(context, size, unit) for size, unit in pairs(context)}
    looked = trained[SMALL_HEAD, False]["scaled"]
    views = [each.seen[-1][1] for each in looked]
    heads = [head for view in views for head in view["heads"]]
    data = {
        "saturation": found,
        "crossing": crossing(found),
        "heads": [view["heads"] for view in views],
        "rows": views[0]["rows"],
        "at_start": start_numbers(looked),
        "edges": [[{k: edge[k] for k in ("layer", "head", "weight_rank", "moved_rank")} for edge in view["edges"]]
                  for view in views],
        "map": max(views[0]["edges"], key=lambda edge: float(np.sum(edge["effect"]))),
        "pairs": [
            {"size": size, "unit": unit, "rates": both["rates"],
             **{kind: [each.loss for each in both[kind]] for kind in SCALINGS}}
            for (size, unit), both in trained.items()
        ],
    }  # fmt: skip
    return Findings(
        laws=[*random_laws(found), *trained_laws(heads)],
        claims=[*order_claims(data["heads"]), *(claim_of(size, unit, both) for (size, unit), both in trained.items())],
        data=data,
        remarks=remarks_of(context, data),
    )


def pair(context: ExperimentContext, size: int, unit: bool) -> dict[str, Any]:
    """Return the trained arms of a head size, each at its own learning rate."""
    both: dict[str, Any] = {"rates": {}}
    for scaling in SCALINGS:
        arm = Arm(size, scaling, unit)
        settings = arm.settings(context)
        rate = context.tuned(arm.name, **settings)
        both["rates"][scaling] = rate
        both[scaling] = context.trained(arm.name, **{**settings, "learning_rate": rate}, **arm.look())
    return both


def looks_of(context: ExperimentContext) -> Mapping[str, Look]:
    """Return the first window of the held-out text is what is looked at."""
    ids = context.corpus.held_out.take(np.arange(context.config.model.context_length))
    tokens = torch.from_numpy(ids)[None]

    def look(model: Decoder, corpus: Corpus) -> dict[str, Any]:
        return look_inside(model, tokens)

    return {"inside": look}


def look_inside(model: Decoder, tokens: Tensor) -> dict[str, Any]:
    """Numbers of `inside`, where the model is."""
    return inside(model, tokens.to(model.token_embedding.weight.device))


def claim_of(size: int, unit: bool, both: Mapping[str, Sequence[Trained]]) -> Claim:
    """Scaled less unscaled, seed by seed."""
    points = differences([each.loss for each in both["scaled"]], [each.loss for each in both["unscaled"]])
    start = ", started with unit variance" if unit else ""
    if size < LARGE_HEAD:
        text = f"Scaling changes the held-out loss by no more than {SMALLEST:g} at d_k = {size}{start}"
        return Claim.of(text, Rule("none", SMALLEST), points, beside=True)
    text = f"Scaling lowers the held-out loss at d_k = {size}{start}"
    return Claim.of(text, Rule("lower", SMALLEST), points, beside=True)


def order_claims(heads: Sequence[Sequence[Mapping[str, float]]]) -> list[Claim]:
    """Return what the note says, on real activations: heads (seeds, heads), a point for each trained model.

    That weights follow dot products within a row, across rows, and that it is similarity which they follow.
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


def random_laws(found: Sequence[Mapping[str, Any]]) -> list[Law]:
    """Return what must hold of random vectors."""
    by_size = {row["size"]: row for row in found}
    spread = [row["std"] / math.sqrt(row["size"]) for row in found]
    entropies = [row["scaled"]["entropy"] for row in found]
    return [
        Law.near(f"std(q . k) / sqrt(d_k), the farthest from 1 of d_k = {found[0]['size']} to {found[-1]['size']}",
                 max(spread, key=lambda value: abs(value - 1.0)), 1.0, 0.05),
        *(Law.near(f"Unscaled, d_k = {d}: share of rows with a weight above 0.99", by_size[d]["unscaled"]["saturated"],
                   *expected) for d, expected in SATURATED.items()),
        Law.below("Scaled: the largest such share of all d_k", max(row["scaled"]["saturated"] for row in found), 0.001),
        *(Law.near(f"Unscaled, d_k = {d}: entropy / ln 64", by_size[d]["unscaled"]["entropy"], *expected)
          for d, expected in ENTROPY.items()),
        Law.near("Scaled: entropy / ln 64, the farthest of all d_k",
                 max(entropies, key=lambda value: abs(value - SCALED_ENTROPY[0])), *SCALED_ENTROPY),
        *(Law.near(f"Unscaled, d_k = {d}: median norm of softmax's Jacobian", by_size[d]["unscaled"]["gradient"],
                   *expected) for d, expected in GRADIENT.items()),
        Law.above("Unscaled gradient of softmax divided by the scaled one, d_k = 8", _ratio(by_size[8]), 1.0),
        Law.above("Unscaled gradient of softmax divided by the scaled one, d_k = 32", _ratio(by_size[32]), 1.0),
        Law.below("Unscaled gradient of softmax divided by the scaled one, d_k = 128", _ratio(by_size[128]), 1.0),
        Law.near("The d_k from which on the unscaled gradient is the smaller one", crossing(list(map(dict, found))),
                 *CROSSING),
    ]  # fmt: skip


def trained_laws(heads: Sequence[Mapping[str, float]]) -> list[Law]:
    """Return what must hold of every head of the trained models, on real text."""
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


def start_numbers(looked: Sequence[Trained]) -> dict[str, dict[str, float]]:
    """Return the spread of q and k and of their dot products in the untrained and in the trained models, over all
    heads.
    """
    names = ("component_std", "score_std")
    return {
        when: {name: float(np.mean([head[name] for each in looked for head in each.seen[at][1]["heads"]]))
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
        f"Each training has {steps} steps; each arm has as many tokens. {context.tuning_words}",
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


EXPERIMENT = Experiment(NOTE, plan, run, draw, changes={"unscaled": unscaled})
