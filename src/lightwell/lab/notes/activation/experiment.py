"""Note 7, ReLU: exact zeros along a training, dead units, and what five nonlinearities cost and gain.

All arms have the same number of parameters: a gated feed-forward has three matrices, and so two thirds of the width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.pace import seconds_per_step
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.lab.notes.activation.note import NOTE
from lightwell.lab.notes.activation.pictures import draw
from lightwell.lab.notes.activation.zeros import EDGES, NEAR, look_zeros
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.config import GATED

ARMS = ("relu", "relu2", "gelu", "silu", "swiglu")
FEW = ("relu", "gelu", "swiglu")
"""At a glance."""
NAMES = {"relu": "ReLU", "relu2": "ReLU squared", "gelu": "GELU", "silu": "SiLU", "swiglu": "SwiGLU"}
WIDE = ("relu", "swiglu")
"""Trained from a wide start as well."""
WITH_ZEROS = ("relu", "relu2")
LOOKED: dict[str, Any] = {"look": "zeros", "looks": 10}
"""Along the trainings that count."""
SMALLEST = 0.02
"""Nats: ungated ones that end so near to each other make no difference. Shazeer 2020 saw 0.002 to 0.006."""
SMALLEST_GATED = 0.01
"""Nats: a fifth of what the gate gained there (0.04 to 0.05), and no less than runs differed (0.003 to 0.010)."""
SMALLEST_SHARE = 0.02
"""Of the values of the hidden layer."""
ROUND_STEPS = 4


def arms_of(context: ExperimentContext) -> tuple[str, ...]:
    """Return all five, three at a glance."""
    return FEW if context.budget.name == "glance" else ARMS


def settings_of(context: ExperimentContext, activation: str) -> dict[str, Any]:
    """Return the activation, and two thirds of the width where it is gated (0 is that by itself)."""
    width = (
        context.config.model.d_ff * (3 if context.config.model.gated else 2) // 2 if context.config.model.d_ff else 0
    )
    return {"activation": activation, "d_ff": 8 * max(1, round(width / 12)) if width and activation in GATED else width}


def has_wide(context: ExperimentContext) -> bool:
    """Return whether the pair with the wide start is trained; a glance has no time for it."""
    return context.budget.name != "glance"


def wide_arm(activation: str) -> str:
    """Its name."""
    return f"{NAMES[activation]}, wide start"


def wide_std(context: ExperimentContext) -> float:
    """1 / sqrt(d_model): what flows into the nonlinearity then has variance 1."""
    return 1.0 / math.sqrt(context.config.model.d_model)


def wide_settings(context: ExperimentContext, activation: str) -> dict[str, Any]:
    """Return an arm that starts so."""
    return {**settings_of(context, activation), "init_std": wide_std(context)}


def wide_pair(context: ExperimentContext) -> dict[str, Any]:
    """ReLU and SwiGLU from the wide start: each one's learning rate and losses."""
    pair: dict[str, Any] = {"std": wide_std(context), "rates": {}, "losses": {}}
    for activation in WIDE:
        arm, settings = wide_arm(activation), wide_settings(context, activation)
        settings["learning_rate"] = pair["rates"][activation] = context.tuned(arm, **settings)
        pair["losses"][activation] = [trained.loss for trained in context.trained(arm, **settings)]
    return pair


def plan(context: ExperimentContext) -> list[Trial]:
    """For each activation, the learning rates that are tried, and a training for each seed."""
    trials = []
    for activation in arms_of(context):
        trials += context.planned(NAMES[activation], looked=LOOKED, **settings_of(context, activation))
    for activation in WIDE if has_wide(context) else ():
        trials += context.planned(wide_arm(activation), **wide_settings(context, activation))
    return trials


def run(context: ExperimentContext) -> Findings:
    """Zeros as laws, losses as claims, times as times."""
    found, rates = {}, {}
    for activation in arms_of(context):
        arm, settings = NAMES[activation], settings_of(context, activation)
        rates[activation] = context.tuned(arm, **settings)
        found[activation] = context.trained(arm, **settings, **LOOKED, learning_rate=rates[activation])
    parameters = {activation: trained[0].parameters for activation, trained in found.items()}
    data: dict[str, Any] = {
        "names": {activation: NAMES[activation] for activation in found},
        "near": NEAR,
        "edges": EDGES,
        "rates": rates,
        "parameters": parameters,
        "losses": {activation: [trained.loss for trained in runs] for activation, runs in found.items()},
        "zeros": {activation: zeros_along(runs) for activation, runs in found.items()},
        "smallest": SMALLEST,
    }
    claims = claims_of(found)
    if has_wide(context):
        data["wide"] = wide_pair(context)
        claims.insert(-1, wide_claim(data["wide"]))
    pace = context.measure("pace", lambda: paces(context), arms=list(found), steps=ROUND_STEPS)
    return Findings(
        laws=laws_of(data),
        claims=claims,
        data=data,
        timings={"seconds per token": pace},
        remarks=remarks_of(context, data),
    )


def zeros_along(runs: Sequence[Trained]) -> list[dict[str, Any]]:
    """For each look, the step and each layer's numbers as means over seeds; every seed's share of zeros beside them."""
    along = []
    for look, (step, layers) in enumerate(runs[0].seen):
        at_seeds = [trained.seen[look][1] for trained in runs]
        rows = []
        for i in range(len(layers)):
            each = [layers_of_seed[i] for layers_of_seed in at_seeds]
            row: dict[str, Any] = {
                key: float(np.mean([one[key] for one in each])) for key in ("zero", "near", "negative", "dead", "size")
            }
            row |= {"lowest": min(one["lowest"] for one in each), "seeds": [one["zero"] for one in each]}
            row |= {"units": each[0]["units"], "tokens": each[0]["tokens"], "deads": [one["dead"] for one in each]}
            row["inflow"] = (
                np.mean([one["inflow"] for one in each], axis=0).tolist() if step == runs[0].seen[-1][0] else []
            )
            rows.append(row)
        along.append({"step": step, "layers": rows})
    return along


def share(along: Sequence[Mapping[str, Any]], look: int, key: str = "zero") -> float:
    """Return a number's mean over layers and seeds, at one look."""
    return float(np.mean([row[key] for row in along[look]["layers"]]))


def share_at(trained: Trained, look: int, key: str) -> float:
    """Return a number's mean over the layers of one training, at one look."""
    return float(np.mean([layer[key] for layer in trained.seen[look][1]]))


def laws_of(data: Mapping[str, Any]) -> list[Law]:
    """Return what has an exact answer or a bound."""
    zeros, parameters = data["zeros"], data["parameters"]
    laws = []
    for activation, along in zeros.items():
        name = data["names"][activation]
        if activation in WITH_ZEROS:
            laws.append(Law.near(f"Exact zeros among {name}'s outputs at initialisation", share(along, 0), 0.5, 0.02))
            lowest = min(row["lowest"] for look in along for row in look["layers"])
            laws.append(Law.near(f"The lowest output of {name} at any look", lowest, 0, 0))
    widest = max(abs(count / parameters["relu"] - 1.0) for count in parameters.values())
    laws.append(Law.below("Parameters of an arm beside ReLU's, largest relative difference", widest, 0.02))
    return laws


def claims_of(found: Mapping[str, Sequence[Trained]]) -> list[Claim]:
    """Return the gate against ReLU, the ungated ones against ReLU, and zeros after training against before."""
    claims: list[Claim] = []
    losses = {activation: [trained.loss for trained in runs] for activation, runs in found.items()}
    for activation in found:
        if activation == "relu":
            continue
        text = f"{NAMES[activation]} ends with a lower held-out loss than ReLU"
        rule = Rule("lower", SMALLEST_GATED)
        if activation not in GATED:
            text = f"{NAMES[activation]} ends with the held-out loss of ReLU, within {SMALLEST:g}"
            rule = Rule("none", SMALLEST)
        claims.append(Claim.of(text, rule, differences(losses[activation], losses["relu"]), beside=True))
    claims += [claim for activation in found if activation not in WITH_ZEROS
               for claim in smooth_claims(NAMES[activation], found[activation])]  # fmt: skip
    grown = [share_at(trained, -1, "zero") - share_at(trained, 0, "zero") for trained in found["relu"]]
    rule = Rule("higher", SMALLEST_SHARE, "of the hidden values")
    return [
        *claims,
        Claim.of("After training, ReLU has more exact zeros than at initialisation", rule, grown, beside=True),
    ]


def smooth_claims(name: str, runs: Sequence[Trained]) -> list[Claim]:
    """Of a function without a corner: next to no zeros, and negative values that pass."""
    zeros, negative = ([share_at(trained, -1, key) for trained in runs] for key in ("zero", "negative"))
    unit = "of the hidden values"
    return [
        Claim.of(f"After training, next to none of {name}'s outputs are exactly 0", Rule("none", SMALLEST_SHARE, unit),
                 zeros, beside=True),
        Claim.of(f"After training, {name} passes negative values on", Rule("higher", SMALLEST_SHARE, unit), negative,
                 beside=True),
    ]  # fmt: skip


def wide_claim(pair: Mapping[str, Any]) -> Claim:
    """Return the gate against ReLU where both start wide."""
    text = f"Where weights begin at {pair['std']:.3g} in place of the base's, SwiGLU ends lower than ReLU"
    points = differences(pair["losses"]["swiglu"], pair["losses"]["relu"])
    return Claim.of(text, Rule("lower", SMALLEST_GATED), points, beside=True)


def paces(context: ExperimentContext) -> dict[str, list[float]]:
    """Return seconds per token of a training step for each arm, round by round."""
    trials = {
        activation: context.trial("pace", 0, **settings_of(context, activation)) for activation in arms_of(context)
    }
    tokens = context.config.batches.batch_size * context.config.model.context_length
    found = seconds_per_step(trials, context.corpus, max(4, context.budget.draws // 8), ROUND_STEPS)
    return {activation: [seconds / tokens for seconds in rounds] for activation, rounds in found.items()}


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
        context.tuning_words,
        "Times per token are of eager, unfused steps on this machine, in rounds whose order is turned around each "
        "time; they are under the timings, since they differ each time.",
        f"Root mean square of the hidden values at initialisation: {', '.join(sizes)}. A gate multiplies two small "
        "numbers, and its branch begins smaller; and trainings as short as these are not the long ones in which gates "
        "were found to gain (Shazeer 2020)." + (WIDE_WORDS if "wide" in data else ""),
    ]


EXPERIMENT = Experiment(NOTE, plan, run, draw, looks={"zeros": look_zeros})
