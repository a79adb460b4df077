"""Note 2, the stride: what overlap shows a model how often, and whether it is overlap or repetition that overfits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightwell.batches.config import BatchConfig
from lightwell.batches.evaluation import evaluation_batches
from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.part import first_tokens
from lightwell.lab.experiments.trial import Look, Trained, Trial, held_out_loss
from lightwell.lab.notes.stride.exposure import (
    epoch_batches,
    exposure_laws,
    exposure_row,
    numbered,
    shared_documents,
    shared_tokens,
    split_after_windowing,
    word_for_word,
)
from lightwell.lab.notes.stride.note import NOTE
from lightwell.lab.notes.stride.pictures import draw
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.decoder import Decoder
from lightwell.training.update.streams import stream_seed

EPOCHS = 4
"""Of the loader, in all arms at equal epochs: about as many passes are still nearly as good as new text (Muennighoff
2023, arXiv 2305.16264), so that what is beyond comes from overlap."""
WIDER = 0.02
"""Nats by which a gap, or a loss in evaluation, matters."""
SAME = 0.03
"""Nats within which two arms of equal tokens count as equal."""
OVERLAP = "scored with overlap"
EVALUATED_STEPS = 600
"""Of the model that is scored with several strides, at most."""
COUNTED = 20_000
"""Tokens of the text on which exposures are counted, at most."""


@dataclass(frozen=True)
class Arm:
    """A way to take windows, and for how long: stride L / ratio, `passes` times EPOCHS epochs of the loader."""

    ratio: int
    passes: int
    random: bool = False

    @property
    def units(self) -> int:
        """Return how many times the tokens of EPOCHS epochs without overlap it trains on."""
        return self.ratio * self.passes


@dataclass(frozen=True)
class Arms:
    """The 2 x 2: {equal epochs of the loader, equal tokens} x strides, and the same repetitions without overlap."""

    ratios: tuple[int, ...]

    @classmethod
    def of(cls, context: ExperimentContext) -> Arms:
        """As many strides as the budget has time for."""
        return cls({"glance": (1, 4), "night": (1, 2, 4, 8)}.get(context.budget.name, (1, 2, 4)))

    @property
    def most(self) -> int:
        """L over the smallest stride."""
        return self.ratios[-1]

    @property
    def equal_epochs(self) -> list[Arm]:
        """Return each stride for EPOCHS epochs."""
        return [Arm(ratio, 1) for ratio in self.ratios]

    @property
    def without_overlap(self) -> list[Arm]:
        """Stride L, for as many passes over the text as each of those."""
        return [Arm(1, ratio) for ratio in self.ratios]

    @property
    def equal_tokens(self) -> list[Arm]:
        """Return each stride, and random offsets, for the tokens of the smallest one."""
        return [*(Arm(ratio, self.most // ratio) for ratio in self.ratios), Arm(self.most, 1, random=True)]

    @property
    def all(self) -> list[Arm]:
        """Return each once."""
        return list(dict.fromkeys([*self.equal_epochs, *self.without_overlap, *self.equal_tokens]))


def part_of_text(context: ExperimentContext) -> int:
    """Return tokens that are trained on: so few that the longest arm takes the budget's steps."""
    config = context.config
    tokens = context.budget.steps * config.batches.batch_size * config.model.context_length
    few = tokens // (EPOCHS * Arms.of(context).most)
    return min(len(context.corpus.train), max(few, 2 * config.model.context_length + 1))


def stride_of(context: ExperimentContext, ratio: int) -> int:
    """L / ratio, at least 1."""
    return max(1, context.config.model.context_length // ratio)


def name_of(context: ExperimentContext, arm: Arm) -> str:
    """In plain words."""
    epochs = EPOCHS * arm.passes
    where = "random offsets" if arm.random else f"stride {stride_of(context, arm.ratio)}"
    return f"{where}, {epochs} epochs" + (f" as of stride {stride_of(context, arm.ratio)}" if arm.random else "")


def settings_of(context: ExperimentContext, arm: Arm) -> dict[str, Any]:
    """Return what an arm replaces. Arms of as many tokens take exactly as many steps."""
    config = context.config
    windows = (part_of_text(context) - 1) // config.model.context_length
    steps = max(1, round(EPOCHS * arm.units * windows / config.batches.batch_size))
    return {
        "stride": stride_of(context, arm.ratio), "sampler": "random" if arm.random else "windows", "shuffle": True,
        "document_boundaries": "cross", "steps": steps, "part": part_of_text(context),
        "warmup_steps": min(config.training.warmup_steps, steps // 4),
        "eval_tokens": min(config.training.eval_tokens, part_of_text(context) - 1),
    }  # fmt: skip


def plain_arm(arm: Arm) -> Arm:
    """Stride L for as many tokens: the arm that the learning rate is chosen for. It is also that of the arms with
    overlap, so that two of as many tokens differ in their windows alone, and what overlap brings is not its rate."""
    return Arm(1, arm.units)


def plan(context: ExperimentContext) -> list[Trial]:
    """Return the learning rates that are tried, all arms on the seeds that count, and the models scored with overlap."""
    trials, rates = [], {}
    for arm in Arms.of(context).without_overlap:
        trials += context.tuning_trials(name_of(context, arm), **settings_of(context, arm))
        rates[arm] = context.expected_rate(name_of(context, arm), **settings_of(context, arm))
    for arm in Arms.of(context).all:
        settings = {**settings_of(context, arm), "learning_rate": rates[plain_arm(arm)]}
        trials += [context.trial(name_of(context, arm), seed, **settings) for seed in context.seeds]
    return [*trials, *(evaluated_trial(context, seed) for seed in context.seeds)]


def run(context: ExperimentContext) -> Findings:
    """Count what windows show, train, and score with overlap."""
    context = dataclasses.replace(context, looks=looks_of(context))
    L, part = context.config.model.context_length, part_of_text(context)
    counted = context.measure("exposures", lambda: count_exposures(context), tokens=part, seed=context.seed)
    leaks = context.measure("leaks", lambda: find_leaks(context), seed=context.seed)
    arms = Arms.of(context)
    rates = {arm: context.tuned(name_of(context, arm), **settings_of(context, arm)) for arm in arms.without_overlap}
    results = {
        arm: context.trained(name_of(context, arm), **settings_of(context, arm), learning_rate=rates[plain_arm(arm)])
        for arm in arms.all
    }
    evaluated = [scored_with_overlap(context, seed) for seed in context.seeds]
    data = {
        "context_length": L,
        "part": part,
        "epochs": EPOCHS,
        "pieces": first_pieces(context),
        "exposures": counted,
        "leaks": leaks,
        "arms": [arm_data(context, arm, found) for arm, found in results.items()],
        "most": arms.most,
        "evaluated": evaluated,
    }
    return Findings(
        laws=[*exposure_laws(counted, L), *leak_laws(leaks)],
        claims=[*claims_of(context, arms, results), evaluation_claim(evaluated)],
        data=data,
        timings={"seconds": {name_of(context, arm): [r.seconds for r in found] for arm, found in results.items()}},
        remarks=remarks_of(context, leaks),
    )


def first_pieces(context: ExperimentContext, count: int = 24) -> list[str]:
    """Return the first tokens of the training text, each as it reads."""
    ids = context.corpus.train.take(np.arange(min(count, len(context.corpus.train))))
    return [
        "¶" if i == context.corpus.train.end_of_text else context.corpus.tokenizer.decode([i]) for i in ids.tolist()
    ]


def count_exposures(context: ExperimentContext) -> list[dict[str, Any]]:
    """For several strides, how often each token of the part is a target in one epoch, counted off the loader."""
    L = context.config.model.context_length
    tokens = numbered(first_tokens(context.corpus, min(COUNTED, part_of_text(context))).train)
    strides = sorted({*(stride_of(context, ratio) for ratio in (1, 2, 4, 8)), L + 1, 2 * L}, reverse=True)
    found = []
    for stride, random in [*((stride, False) for stride in strides), (stride_of(context, 4), True)]:
        settings = BatchConfig(batch_size=256, stride=stride, sampler="random" if random else "windows")
        loader = BatchLoader(tokens, settings, L, stream_seed(context.seed, "order"))
        found.append(exposure_row(loader, L, stride, random))
    return found


def find_leaks(context: ExperimentContext) -> dict[str, int]:
    """Return tokens that training and held-out windows share: in the loader here, and where the split comes too late."""
    L, corpus = context.config.model.context_length, context.corpus
    of = len(corpus.train) + len(corpus.held_out)
    training, held_out = numbered(corpus.train, 0, of), numbered(corpus.held_out, len(corpus.train), of)
    loader = BatchLoader(training, dataclasses.replace(context.config.batches, batch_size=1024), L, context.seed)
    part = numbered(first_tokens(corpus, COUNTED).train)
    before, after = split_after_windowing(part, L, stride_of(context, 2))
    found, of_windows = word_for_word(corpus.train, corpus.held_out, L)
    documents, of_documents = shared_documents(corpus.train, corpus.held_out)
    return {
        "documents": documents,
        "held_out_documents": of_documents,
        "shared": shared_tokens(
            epoch_batches(loader), evaluation_batches(held_out, L, 1024, stride=stride_of(context, 2))
        ),
        "shared_late": shared_tokens([before], [after]),
        "held_out_late": int(after.inputs.shape[0]),
        "word_for_word": found,
        "held_out_windows": of_windows,
    }


def leak_laws(leaks: Mapping[str, int]) -> list[Law]:
    """None here; and the test can tell."""
    return [
        Law.near(f"Of {leaks['held_out_documents']:,} held-out documents, those that are training documents as well",
                 leaks["documents"], 0, 0),
        Law.near("Tokens that the windows of both sides have in common, by their place in the text", leaks["shared"],
                 0, 0),
        Law.above("Tokens in common, as a control, where windows at stride L/2 are cut before the split",
                  leaks["shared_late"], 0),
    ]  # fmt: skip


def arm_data(context: ExperimentContext, arm: Arm, found: Sequence[Trained]) -> dict[str, Any]:
    """Return an arm's numbers, seed by seed."""
    settings = settings_of(context, arm)
    return {
        **asdict(arm),
        "name": name_of(context, arm),
        "stride": settings["stride"],
        "steps": settings["steps"],
        "effective_epochs": found[0].effective_epochs,
        "loss": [result.loss for result in found],
        "train_loss": [result.train_loss for result in found],
        "gap": [result.gap for result in found],
        "validations": [result.validations for result in found],
    }


def claims_of(context: ExperimentContext, arms: Arms, results: Mapping[Arm, Sequence[Trained]]) -> list[Claim]:
    """Return what the note says, of the smallest stride beside stride L, at equal epochs and at equal tokens."""
    L, small, most = stride_of(context, 1), stride_of(context, arms.most), arms.most
    overlapped, few, many, anywhere = Arm(most, 1), Arm(1, 1), Arm(1, most), Arm(most, 1, random=True)

    def compared(text: str, first: Arm, second: Arm, value: str, smallest: float, beside: bool = False) -> Claim:
        values = [[getattr(result, value) for result in results[arm]] for arm in (first, second)]
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


def evaluated_trial(context: ExperimentContext, seed: int) -> Trial:
    """Return the training whose model is scored with overlap."""
    return context.trial(OVERLAP, seed, look=OVERLAP, looks=1, steps=min(context.budget.steps, EVALUATED_STEPS))


def evaluation_strides(context: ExperimentContext) -> list[int]:
    """Side by side, and with overlap."""
    return [stride_of(context, ratio) for ratio in (1, 2, 4)]


def looks_of(context: ExperimentContext) -> Mapping[str, Look]:
    """Return what is looked at: the held-out loss by the stride of the windows that a model is scored in."""

    def overlap(model: Decoder, corpus: Corpus) -> list[float]:
        return [
            held_out_loss(model, corpus.held_out, corpus, context.config, stride=stride).nats_per_token
            for stride in evaluation_strides(context)
        ]

    return {OVERLAP: overlap}


def scored_with_overlap(context: ExperimentContext, seed: int) -> dict[str, Any]:
    """One trained model's held-out loss by stride."""
    trial = evaluated_trial(context, seed)
    losses = context.train(trial).seen[-1][1]
    return {"strides": evaluation_strides(context), "losses": losses, "steps": trial.config.training.steps}


def evaluation_claim(evaluated: Sequence[Mapping[str, Any]]) -> Claim:
    """That overlap helps when a model is scored."""
    strides = evaluated[0]["strides"]
    points = [found["losses"][-1] - found["losses"][0] for found in evaluated]
    text = f"One model scored with stride {strides[-1]} has a lower loss than scored with stride {strides[0]}"
    return Claim.of(text, Rule("lower", WIDER), points, beside=True)


def remarks_of(context: ExperimentContext, leaks: Mapping[str, int]) -> list[str]:
    """Return how it was done."""
    part, L = part_of_text(context), context.config.model.context_length
    late = f"{leaks['shared_late']:,} tokens in {leaks['held_out_late']:,} held-out windows"
    return [
        f"Training saw the first {part:,} tokens of the text only, so that they repeat within the budget.",
        "An epoch of the loader is a pass over its windows. Stride L/k makes k times as many, so that equal epochs are "
        "k times the tokens, the updates and the repetitions; arms at equal tokens share all of these.",
        "Both losses of a gap are measured with dropout off, on as many tokens, in windows side by side. On the "
        "training text these are the very windows of stride L, which those arms have seen, so that of two arms with "
        "equal tokens the held-out losses say more than the gaps.",
        f"{context.tuning_words} Arms of as many tokens share that of stride {L}; it decays to the end of each arm's "
        "own steps.",
        f"Where windows are cut before the split, the held-out side shares {late} with the training side.",
        f"{leaks['word_for_word']:,} of {leaks['held_out_windows']:,} held-out stretches of {L} tokens occur word for "
        "word in the training text: repetitions of the text itself, which no split by documents removes.",
    ]


EXPERIMENT = Experiment(NOTE, plan, run, draw)
