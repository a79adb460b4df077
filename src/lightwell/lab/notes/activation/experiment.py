"""Note 7, ReLU: exact zeros along a training, dead units, and what five nonlinearities cost and gain.

All arms have the same number of parameters: a gated feed-forward has three matrices, and so two thirds of the width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.pace import seconds_per_step
from lightwell.lab.experiments.rate_search import TunedArm, tune_and_train, tuning_words
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.activation.note import NOTE
from lightwell.lab.notes.activation.pictures import draw
from lightwell.lab.notes.activation.zeros import EDGES, NEAR, probe_zeros
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.config import GATED

ARMS = ("relu", "relu2", "gelu", "silu", "swiglu")
FEW = ("relu", "gelu", "swiglu")
"""The activations that a glance has time for."""
NAMES = {"relu": "ReLU", "relu2": "ReLU squared", "gelu": "GELU", "silu": "SiLU", "swiglu": "SwiGLU"}
WIDE = ("relu", "swiglu")
"""The pair that is trained from a wide start as well."""
WITH_ZEROS = ("relu", "relu2")
PROBING: dict[str, Any] = {"probe": "zeros", "probes": 10}
"""What is read along the trainings that count."""
SMALLEST = 0.02
"""Nats: ungated ones that end so near to each other make no difference. Shazeer 2020 saw 0.002 to 0.006."""
SMALLEST_GATED = 0.01
"""Nats: a fifth of what the gate gained there (0.04 to 0.05), and no less than runs differed (0.003 to 0.010)."""
SMALLEST_SHARE = 0.02
"""A share of the hidden layer's values that matters."""
ROUND_STEPS = 4


@dataclass(frozen=True)
class Trainings:
    """What was trained, each activation at its own learning rate."""

    arms: Mapping[str, TunedArm]
    """The arms of the base start, by activation."""
    wide: Mapping[str, TunedArm]
    """The pair from the wide start; a glance has no time for it."""


def arms_of(context: ExperimentContext) -> tuple[str, ...]:
    """Return the five activations, three at a glance."""
    return FEW if context.budget.name == "glance" else ARMS


def settings_of(context: ExperimentContext, activation: str) -> dict[str, Any]:
    """Return the activation, and two thirds of the width where it is gated (0 is that by itself)."""
    model = context.config.model
    width = model.d_ff * (3 if model.gated else 2) // 2 if model.d_ff else 0
    return {"activation": activation, "d_ff": 8 * max(1, round(width / 12)) if width and activation in GATED else width}


def wide_std(context: ExperimentContext) -> float:
    """Return 1 / sqrt(d_model): what flows into the nonlinearity then has variance 1."""
    return 1.0 / math.sqrt(context.config.model.d_model)


def trainings(context: ExperimentContext) -> Trainings:
    """Train each activation, and a pair from a wide start where there is time."""
    arms = {
        activation: tune_and_train(context, NAMES[activation], settings_of(context, activation), probing=PROBING)
        for activation in arms_of(context)
    }
    wide = {
        activation: tune_and_train(
            context, f"{NAMES[activation]}, wide start",
            {**settings_of(context, activation), "init_std": wide_std(context)},
        )
        for activation in (WIDE if context.budget.name != "glance" else ())
    }  # fmt: skip
    return Trainings(arms, wide)


def findings(context: ExperimentContext, trained: Trainings) -> Findings:
    """Judge zeros as laws and losses as claims; times are times."""
    arms = trained.arms
    data: dict[str, Any] = {
        "names": {activation: NAMES[activation] for activation in arms},
        "near": NEAR,
        "edges": EDGES,
        "rates": {activation: arm.rate for activation, arm in arms.items()},
        "parameters": {activation: arm.runs[0].parameters for activation, arm in arms.items()},
        "losses": {activation: arm.losses for activation, arm in arms.items()},
        "zeros": {activation: zeros_along(arm.runs) for activation, arm in arms.items()},
        "smallest": SMALLEST,
    }
    claims = claims_of(arms)
    if trained.wide:
        data["wide"] = {
            "std": wide_std(context),
            "rates": {activation: arm.rate for activation, arm in trained.wide.items()},
            "losses": {activation: arm.losses for activation, arm in trained.wide.items()},
        }
        claims.insert(-1, wide_claim(data["wide"]))
    pace = context.measure("pace", lambda: paces(context), arms=list(arms), steps=ROUND_STEPS)
    return Findings(
        laws=laws_of(data),
        claims=claims,
        data=data,
        timings={"seconds per token": pace},
        remarks=remarks_of(context, data),
    )


def zeros_along(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return, for each probe, the step and each layer's means over seeds, with every seed's share of zeros."""
    along = []
    for at, (step, layers) in enumerate(runs[0].probed):
        at_seeds = [run.probed[at][1] for run in runs]
        rows = []
        for i in range(len(layers)):
            each = [layers_of_seed[i] for layers_of_seed in at_seeds]
            row: dict[str, Any] = {
                key: float(np.mean([one[key] for one in each])) for key in ("zero", "near", "negative", "dead", "size")
            }
            row |= {"lowest": min(one["lowest"] for one in each), "seeds": [one["zero"] for one in each]}
            row |= {"units": each[0]["units"], "tokens": each[0]["tokens"], "deads": [one["dead"] for one in each]}
            row["inflow"] = (
                np.mean([one["inflow"] for one in each], axis=0).tolist() if step == runs[0].probed[-1][0] else []
            )
            rows.append(row)
        along.append({"step": step, "layers": rows})
    return along


def share(along: Sequence[Mapping[str, Any]], at: int, key: str = "zero") -> float:
    """Return a number's mean over layers and seeds, at one probe."""
    return float(np.mean([row[key] for row in along[at]["layers"]]))


def share_at(run: Trained, at: int, key: str) -> float:
    """Return a number's mean over the layers of one training, at one probe."""
    return float(np.mean([layer[key] for layer in run.probed[at][1]]))


def laws_of(data: Mapping[str, Any]) -> list[Law]:
    """Return the laws of zeros and of the number of parameters."""
    zeros, parameters = data["zeros"], data["parameters"]
    laws = []
    for activation, along in zeros.items():
        name = data["names"][activation]
        if activation in WITH_ZEROS:
            laws.append(Law.near(f"Exact zeros among {name}'s outputs at initialisation", share(along, 0), 0.5, 0.02))
            lowest = min(row["lowest"] for probed in along for row in probed["layers"])
            laws.append(Law.near(f"The lowest output of {name} at any look", lowest, 0, 0))
    widest = max(abs(count / parameters["relu"] - 1.0) for count in parameters.values())
    laws.append(Law.below("Parameters of an arm beside ReLU's, largest relative difference", widest, 0.02))
    return laws


def claims_of(arms: Mapping[str, TunedArm]) -> list[Claim]:
    """Return the claims: the gate and the ungated ones against ReLU, and zeros after training against before."""
    claims: list[Claim] = []
    for activation, arm in arms.items():
        if activation == "relu":
            continue
        text = f"{NAMES[activation]} ends with a lower held-out loss than ReLU"
        rule = Rule("lower", SMALLEST_GATED)
        if activation not in GATED:
            text = f"{NAMES[activation]} ends with the held-out loss of ReLU, within {SMALLEST:g}"
            rule = Rule("none", SMALLEST)
        claims.append(Claim.of(text, rule, differences(arm.losses, arms["relu"].losses), beside=True))
    for activation, arm in arms.items():
        if activation not in WITH_ZEROS:
            claims += smooth_claims(NAMES[activation], arm.runs)
    grown = [share_at(run, -1, "zero") - share_at(run, 0, "zero") for run in arms["relu"].runs]
    rule = Rule("higher", SMALLEST_SHARE, "of the hidden values")
    return [
        *claims,
        Claim.of("After training, ReLU has more exact zeros than at initialisation", rule, grown, beside=True),
    ]


def smooth_claims(name: str, runs: Sequence[Trained]) -> list[Claim]:
    """Return what is claimed of a function without a corner: next to no zeros, and negative values that pass."""
    zeros, negative = ([share_at(run, -1, key) for run in runs] for key in ("zero", "negative"))
    unit = "of the hidden values"
    return [
        Claim.of(f"After training, next to none of {name}'s outputs are exactly 0", Rule("none", SMALLEST_SHARE, unit),
                 zeros, beside=True),
        Claim.of(f"After training, {name} passes negative values on", Rule("higher", SMALLEST_SHARE, unit), negative,
                 beside=True),
    ]  # fmt: skip


def wide_claim(pair: Mapping[str, Any]) -> Claim:
    """Return the claim on the gate against ReLU where both start wide."""
    text = f"Where weights begin at {pair['std']:.3g} in place of the base's, SwiGLU ends lower than ReLU"
    points = differences(pair["losses"]["swiglu"], pair["losses"]["relu"])
    return Claim.of(text, Rule("lower", SMALLEST_GATED), points, beside=True)


def paces(context: ExperimentContext) -> dict[str, list[float]]:
    """Return seconds per token of a training step for each arm, round by round."""
    trials = {
        activation: context.trial("pace", 0, **settings_of(context, activation)) for activation in arms_of(context)
    }
    tokens = context.config.batches.batch_size * context.config.model.context_length
    measured = seconds_per_step(trials, context.corpus, max(4, context.budget.draws // 8), ROUND_STEPS)
    return {activation: [seconds / tokens for seconds in rounds] for activation, rounds in measured.items()}


WIDE_WORDS = (
    " Weights that begin at 1/sqrt(d_model) let values of variance 1 flow in, as in wide models, where the usual 0.02 "
    "is about that: ReLU and SwiGLU were trained from there as well. That pair was added when a trial of one seed and "
    "600 steps had shown that the start matters."
)


def remarks_of(context: ExperimentContext, data: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know."""
    first = data["zeros"]["relu"][-1]["layers"]
    dead = [
        f"{data['names'][activation]} {sum(sum(row['deads']) for row in along[-1]['layers'])}"
        for activation, along in data["zeros"].items()
    ]
    units = sum(row["units"] for row in first) * len(first[0]["deads"])
    near = [f"{data['names'][a]} {100 * share(along, -1, 'near'):.2g} %" for a, along in data["zeros"].items()]
    sizes = [f"{data['names'][a]} {share(along, 0, 'size'):.3g}" for a, along in data["zeros"].items()]
    return [
        f"A zero is a value that is exactly 0.0, counted on {first[0]['tokens']:,.0f} held-out tokens, the same at "
        f"each look. Below {NEAR:g} in size after training: {', '.join(near)}; squaring makes small values smaller. "
        "Exact zeros of GELU are rounding: in fp32 it is 0 from about -5.5 downwards.",
        f"Units that are 0 on every one of those tokens after training, all layers and seeds together: "
        f"{', '.join(dead)}, of {units:,} units (SwiGLU has two thirds as many).",
        tuning_words(context),
        "Times per token are of eager, unfused steps on this machine, in rounds whose order is turned around each "
        "time; they are under the timings, since they differ each time.",
        f"Root mean square of the hidden values at initialisation: {', '.join(sizes)}. A gate multiplies two small "
        "numbers, and its branch begins smaller; and trainings as short as these are not the long ones in which gates "
        "were found to gain (Shazeer 2020)." + (WIDE_WORDS if "wide" in data else ""),
    ]


EXPERIMENT = Experiment(NOTE, trainings, findings, draw, probes={"zeros": probe_zeros})
