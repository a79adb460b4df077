"""Note 2, the stride: what overlap shows a model how often, and whether it is overlap or repetition that overfits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.rate_search import LearningRateSearch, tuning_words
from lightwell.lab.experiments.trial import Trained, held_out_loss
from lightwell.lab.notes.stride.arms import EPOCHS, Arm, Arms, name_of, prefix_tokens, settings_of, stride_of
from lightwell.lab.notes.stride.exposure import count_exposures, exposure_laws
from lightwell.lab.notes.stride.leaks import find_leaks, leak_laws
from lightwell.lab.notes.stride.note import NOTE
from lightwell.lab.notes.stride.pictures import draw
from lightwell.lab.verdicts.verdict import Claim, Rule
from lightwell.model.decoder import Decoder
from lightwell.training.settings.config import RunConfig

WIDER = 0.02
"""Nats by which a gap, or a loss in evaluation, matters."""
SAME = 0.03
"""Nats within which two arms of equal tokens count as equal."""
OVERLAP = "scored with overlap"
EVALUATED_STEPS = 600
"""Steps of the models that are scored with several strides, at most."""


@dataclass(frozen=True)
class Trainings:
    """What was trained."""

    arms: Mapping[Arm, list[Trained]]
    scored_with_overlap: list[Trained]


def trainings(context: ExperimentContext) -> Trainings:
    """Train each arm at the learning rate of its plain one, and models that are scored with overlap."""
    arms = Arms.of(context)
    rates = {
        arm: LearningRateSearch(context, name_of(context, arm), settings_of(context, arm)).best()
        for arm in arms.without_overlap
    }
    runs = {
        arm: context.trained(name_of(context, arm), **settings_of(context, arm), learning_rate=rates[arm.plain])
        for arm in arms.all
    }
    steps = min(context.budget.steps, EVALUATED_STEPS)
    return Trainings(runs, context.trained(OVERLAP, probe=OVERLAP, probes=1, steps=steps))


def findings(context: ExperimentContext, trained: Trainings) -> Findings:
    """Count what windows show, and judge the arms and the scoring with overlap."""
    L, tokens = context.config.model.context_length, prefix_tokens(context)
    counted = context.measure("exposures", lambda: count_exposures(context), tokens=tokens, seed=context.seed)
    leaks = context.measure("leaks", lambda: find_leaks(context), seed=context.seed)
    arms, runs = Arms.of(context), trained.arms
    steps = min(context.budget.steps, EVALUATED_STEPS)
    evaluated = [
        {"strides": scored_strides(L), "losses": run.probed[-1][1], "steps": steps}
        for run in trained.scored_with_overlap
    ]
    data = {
        "context_length": L,
        "part": tokens,
        "epochs": EPOCHS,
        "pieces": first_pieces(context),
        "exposures": counted,
        "leaks": leaks,
        "arms": [arm_data(context, arm, runs[arm]) for arm in runs],
        "most": arms.most,
        "evaluated": evaluated,
    }
    return Findings(
        laws=[*exposure_laws(counted, L), *leak_laws(leaks)],
        claims=[*claims_of(context, arms, runs), evaluation_claim(evaluated)],
        data=data,
        timings={"seconds": {name_of(context, arm): [run.seconds for run in runs[arm]] for arm in runs}},
        remarks=remarks_of(context, leaks),
    )


def first_pieces(context: ExperimentContext, count: int = 24) -> list[str]:
    """Return the first tokens of the training text, each as it reads."""
    ids = context.corpus.train.take(np.arange(min(count, len(context.corpus.train))))
    return [
        "¶" if i == context.corpus.train.end_of_text else context.corpus.tokenizer.decode([i]) for i in ids.tolist()
    ]


def arm_data(context: ExperimentContext, arm: Arm, runs: Sequence[Trained]) -> dict[str, Any]:
    """Return an arm's numbers, seed by seed."""
    settings = settings_of(context, arm)
    return {
        **asdict(arm),
        "name": name_of(context, arm),
        "stride": settings["stride"],
        "steps": settings["steps"],
        "effective_epochs": runs[0].effective_epochs,
        "loss": [run.loss for run in runs],
        "train_loss": [run.train_loss for run in runs],
        "gap": [run.gap for run in runs],
        "validations": [run.held_out_losses for run in runs],
    }


def claims_of(context: ExperimentContext, arms: Arms, runs: Mapping[Arm, Sequence[Trained]]) -> list[Claim]:
    """Return the claims on the smallest stride beside stride L, at equal epochs and at equal tokens."""
    L, most = context.config.model.context_length, arms.most
    small = stride_of(L, most)
    overlapped, few, many, anywhere = Arm(most, 1), Arm(1, 1), Arm(1, most), Arm(most, 1, random=True)

    def compared(text: str, first: Arm, second: Arm, value: str, smallest: float, beside: bool = False) -> Claim:
        values = [[getattr(run, value) for run in runs[arm]] for arm in (first, second)]
        return Claim.of(text, Rule("higher", smallest), differences(*values), beside)

    epochs = f"At {EPOCHS} epochs of the loader each, stride {small}"
    tokens = f"At equal tokens ({EPOCHS} epochs at stride {small}, {EPOCHS * most} at {L})"
    return [
        compared(f"{epochs} ends with a wider gap of held-out to training loss than {L}",
                 overlapped, few, "gap", WIDER),
        compared(f"{epochs} ends with a higher held-out loss than {L}", overlapped, few, "loss", WIDER),
        compared(f"{tokens}, overlap ends with a higher held-out loss", overlapped, many, "loss", SAME),
        compared(f"{tokens}, overlap ends with a wider gap", overlapped, many, "gap", SAME, True),
        compared(f"At equal tokens, random offsets end with a higher held-out loss than stride {L}",
                 anywhere, many, "loss", SAME, True),
    ]  # fmt: skip


def scored_strides(context_length: int) -> list[int]:
    """Return the strides that a model is scored at: side by side, and with overlap."""
    return [stride_of(context_length, ratio) for ratio in (1, 2, 4)]


def probe_overlap(model: Decoder, corpus: Corpus, config: RunConfig) -> list[float]:
    """Read the held-out loss by the stride of the windows that a model is scored in."""
    return [
        held_out_loss(model, corpus.held_out, corpus, config, stride=stride).nats_per_token
        for stride in scored_strides(config.model.context_length)
    ]


def evaluation_claim(evaluated: Sequence[Mapping[str, Any]]) -> Claim:
    """Return the claim that overlap helps when a model is scored."""
    strides = evaluated[0]["strides"]
    points = [scored["losses"][-1] - scored["losses"][0] for scored in evaluated]
    text = f"One model scored with stride {strides[-1]} has a lower loss than scored with stride {strides[0]}"
    return Claim.of(text, Rule("lower", WIDER), points, beside=True)


def remarks_of(context: ExperimentContext, leaks: Mapping[str, int]) -> list[str]:
    """Return how it was done."""
    tokens, L = prefix_tokens(context), context.config.model.context_length
    late = f"{leaks['shared_late']:,} tokens in {leaks['held_out_late']:,} held-out windows"
    return [
        f"Training saw the first {tokens:,} tokens of the text only, so that they repeat within the budget.",
        "An epoch of the loader is a pass over its windows. Stride L/k makes k times as many, so that equal epochs are "
        "k times the tokens, the updates and the repetitions; arms at equal tokens share all of these.",
        "Both losses of a gap are measured with dropout off, on as many tokens, in windows side by side. On the "
        "training text these are the very windows of stride L, which those arms have seen, so that of two arms with "
        "equal tokens the held-out losses say more than the gaps.",
        f"{tuning_words(context)} Arms of as many tokens share that of stride {L}; it decays to the end of each arm's "
        "own steps.",
        f"Where windows are cut before the split, the held-out side shares {late} with the training side.",
        f"{leaks['word_for_word']:,} of {leaks['held_out_windows']:,} held-out stretches of {L} tokens occur word for "
        "word in the training text: repetitions of the text itself, which no split by documents removes.",
    ]


EXPERIMENT = Experiment(NOTE, trainings, findings, draw, probes={OVERLAP: probe_overlap})
