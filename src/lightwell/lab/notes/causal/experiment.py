"""Note 4, causal attention: the tests that a mask must pass, and what a model learns without one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lightwell.corpus.corpus import Corpus
from lightwell.generation.generate import resting
from lightwell.generation.language_model import LanguageModel
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.skipping import skipping
from lightwell.lab.experiments.trial import Trained, Trial, held_out_loss
from lightwell.lab.notes.causal.checks import LENGTH, check_causal, gradient_map
from lightwell.lab.notes.causal.models import DecoderSubject
from lightwell.lab.notes.causal.note import NOTE
from lightwell.lab.notes.causal.pictures import draw
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.tokens.token_file import TokenFile
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.streams import stream_seed

MASKED, UNMASKED, RANDOM = "causal mask", "no mask", "random tokens"
WRITTEN = 48
"""Tokens of a text that a model writes."""
OPENING = 24
"""Tokens of the held-out text that it goes on from."""
CHANCE = 0.02
"""How far below ln V a finite number of random tokens may come by chance, in nats per token."""
SMALLEST = 0.02


def unmasked() -> Tap:
    """Return the change by which every token sees all others: the scores pass by the mask."""
    return skipping("masked", back_to="scaled")


def arm(context: ExperimentContext, name: str, seed: int) -> Trial:
    """Return one training. Both attentions are computed by the same formula, so that arms differ in the mask alone."""
    if name == RANDOM:
        return context.trial(name, seed, text=RANDOM)
    change = "unmasked" if name == UNMASKED else ""
    return context.trial(name, seed, change=change, probe=name, probes=1, attention="explicit")


@dataclasses.dataclass(frozen=True)
class Trainings:
    """What was trained."""

    masked: Sequence[Trained]
    unmasked: Sequence[Trained]
    on_random_tokens: Trained


def trainings(context: ExperimentContext) -> Trainings:
    """Train a model with the mask and one without for each seed, and one on random tokens."""
    masked, unmasked = (
        [context.train(arm(context, name, seed)) for seed in context.seeds] for name in (MASKED, UNMASKED)
    )
    return Trainings(masked, unmasked, context.train(arm(context, RANDOM, context.seed)))


def findings(context: ExperimentContext, trained: Trainings) -> Findings:
    """Judge the checks on each trained model, the control, and the random tokens."""
    masked, unmasked, chance = trained.masked, trained.unmasked, trained.on_random_tokens
    V = context.config.model.vocab_size
    probed, leaky = [run.probed[-1][1] for run in masked], [run.probed[-1][1] for run in unmasked]
    scored = [each["loss"] for each in leaky]
    losses = {MASKED: [run.loss for run in masked], UNMASKED: [run.loss for run in unmasked]}
    claims = [
        Claim.of(
            "Without the mask the held-out loss is lower, since the next token is among the inputs",
            Rule("lower", SMALLEST),
            differences(losses[UNMASKED], losses[MASKED]),
            beside=True,
        ),
        Claim.of(
            "The same weights, scored with the mask as a text is written, are worse",
            Rule("higher", SMALLEST),
            differences(scored, losses[MASKED]),
            beside=True,
        ),
    ]
    laws = [
        *laws_of([each["checks"]["rows"] for each in probed]),
        Law.above(
            "The check of changed tokens finds the leak of the model without mask: largest change before the token",
            min(each["leak"] for each in leaky),
            0.0,
        ),
        Law.above(f"Held-out loss of random tokens less ln {V}", chance.loss - math.log(V), -CHANCE),
    ]
    data = {
        "checks": probed[0]["checks"],
        "curves": {
            MASKED: [run.held_out_losses for run in masked],
            UNMASKED: [run.held_out_losses for run in unmasked],
        },
        "losses": losses,
        "training_losses": {MASKED: [run.train_loss for run in masked], UNMASKED: [run.train_loss for run in unmasked]},
        "scored_with_mask": scored,
        "uniform": math.log(V),
        "opening": opening(context.corpus),
        "texts": {MASKED: probed[0]["texts"], UNMASKED: leaky[0]["texts"]},
        "maps": {MASKED: probed[0]["map"], UNMASKED: leaky[0]["map"]},
        "random": {"validations": chance.held_out_losses, "batch_losses": chance.batch_losses, "loss": chance.loss},
    }
    remarks = [
        "The control is no competitor: its loss is low because the answer is among the inputs. It is there to show "
        "what a leak looks like. Its learning rate was not retuned.",
        f"Random tokens: {random_tokens(context.config):,} of them, each drawn from all {V:,} alike, none seen twice.",
        f"After {_quoted(opening(context.corpus), 60)}, with the mask, the likeliest text: "
        f"{_quoted(probed[0]['texts'][0])}",
        f"Trained without it and written with it: {_quoted(leaky[0]['texts'][0])}",
    ]
    return Findings(laws=laws, claims=claims, data=data, remarks=remarks)


def probe_masked(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Read the checks of a model that was trained with the mask."""
    checks = check_causal(model).to_dict()
    return {**scored_and_written(model, corpus, config), "checks": checks, "map": reach(model, passthrough)}


def probe_unmasked(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Read the leak of a model that was trained without the mask."""
    leak = check_causal(model, tap=unmasked())["a changed token"].measured
    return {**scored_and_written(model, corpus, config), "leak": leak, "map": reach(model, unmasked())}


def scored_and_written(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Return the held-out loss and texts, both with the mask, however the model was trained."""
    loss = held_out_loss(model, corpus.held_out, corpus, config).nats_per_token
    return {"loss": loss, "texts": texts(model, corpus)}


def opening(corpus: Corpus) -> str:
    """Return the first words of the held-out text; what follows them is written."""
    ids = corpus.held_out.take(np.arange(1, 1 + OPENING))
    return corpus.tokenizer.decode(ids)


def texts(model: Decoder, corpus: Corpus) -> list[str]:
    """Return what a model writes after the opening: the likeliest token each time, and tokens by chance."""
    language = LanguageModel(model, corpus.tokenizer)
    return [language.generate(opening(corpus), seed=1, temperature=t, max_new_tokens=WRITTEN) for t in (0.0, 0.8)]


def reach(model: Decoder, tap: Tap) -> list[list[float]]:
    """Return how strongly prediction i depends on input token j, relative to the strongest of its row: (T, T)."""
    generator = torch.Generator().manual_seed(stream_seed(1, "reach"))
    T = min(LENGTH, model.config.context_length)
    tokens = torch.randint(model.config.vocab_size, (1, T), generator=generator)
    with resting(model):
        sizes = gradient_map(DecoderSubject(model, tap), tokens, generator)
    assert sizes is not None
    rows: list[list[float]] = (sizes / sizes.amax(dim=-1, keepdim=True).clamp_min(1e-30)).tolist()
    return rows


def laws_of(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[Law]:
    """Return a law for each check, with the worst number of all trained models; tables: the checks' rows of each."""
    laws = []
    for rows in zip(*tables, strict=True):
        if rows[0]["outcome"] == "not applicable":
            continue
        failed = [row for row in rows if row["outcome"] == "failed"]
        row = max(failed or rows, key=lambda row: math.inf if row["measured"] is None else row["measured"])
        measured = math.nan if row["measured"] is None else row["measured"]
        laws.append(Law(row["what"].rstrip("."), measured, row["expected"], not failed))
    return laws


def random_tokens(config: RunConfig) -> int:
    """Return how many tokens a training needs without seeing one twice."""
    return (config.training.steps + 1) * config.batches.batch_size * config.model.context_length + 1


def random_corpus(corpus: Corpus, config: RunConfig, seed: int) -> Corpus:
    """Return a text of tokens that are drawn from all of the vocabulary alike, none of which is trained on twice."""
    V = config.model.vocab_size
    generator = np.random.default_rng(stream_seed(seed, RANDOM))
    train = TokenFile.from_ids(generator.integers(V, size=random_tokens(config)), vocab_size=V)
    held_out = TokenFile.from_ids(generator.integers(V, size=config.training.eval_tokens + 1), vocab_size=V)
    return dataclasses.replace(corpus, train=train, held_out=held_out, digest=train.digest)


def _quoted(text: str, longest: int = 160) -> str:
    return '"' + " ".join(text.split())[:longest] + '"'


PROBES = {MASKED: probe_masked, UNMASKED: probe_unmasked}
EXPERIMENT = Experiment(
    NOTE, trainings, findings, draw, changes={"unmasked": unmasked}, probes=PROBES, texts={RANDOM: random_corpus}
)
