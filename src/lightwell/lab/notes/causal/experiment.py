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
from lightwell.lab.experiments.trial import Look, Trained, Trial, held_out_loss
from lightwell.lab.notes.causal.checks import LENGTH, check_causal, gradient_map
from lightwell.lab.notes.causal.models import DecoderSubject
from lightwell.lab.notes.causal.note import NOTE
from lightwell.lab.notes.causal.pictures import draw
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.tokens.token_file import TokenFile
from lightwell.training.update.streams import stream_seed

MASKED, UNMASKED, RANDOM = "causal mask", "no mask", "random tokens"
WRITTEN = 48
"""Tokens of a sample."""
OPENING = 24
"""Tokens that it goes on from."""
CHANCE = 0.02
"""How far below ln V a finite number of random tokens may come by chance, in nats per token."""
SMALLEST = 0.02


def unmasked() -> Tap:
    """Return every token sees all others: the scores pass by the mask."""
    return skipping("masked", back_to="scaled")


def arm(context: ExperimentContext, name: str, seed: int) -> Trial:
    """One training. Both attentions are computed by the same formula, so that the arms differ in the mask alone."""
    if name == RANDOM:  # the look's name tells its result apart from one on the text; nothing is looked at
        return context.trial(name, seed, look=RANDOM)
    change = "unmasked" if name == UNMASKED else ""
    return context.trial(name, seed, change=change, look=name, looks=1, attention="explicit")


def plan(context: ExperimentContext) -> list[Trial]:
    """Return a model with the mask and one without for each seed, and one on random tokens."""
    both = [arm(context, name, seed) for name in (MASKED, UNMASKED) for seed in context.seeds]
    return [*both, arm(context, RANDOM, context.seed)]


def run(context: ExperimentContext) -> Findings:
    """Return the checks on each trained model, the control, and the random tokens."""
    context = dataclasses.replace(context, looks=looks_of(context))
    masked = [context.train(arm(context, MASKED, seed)) for seed in context.seeds]
    control = [context.train(arm(context, UNMASKED, seed)) for seed in context.seeds]
    V = context.config.model.vocab_size
    tokens = random_corpus(context)
    chance = dataclasses.replace(context, corpus=tokens).train(arm(context, RANDOM, context.seed))
    seen, leaky = [each.seen[-1][1] for each in masked], [each.seen[-1][1] for each in control]
    scored = [each["loss"] for each in leaky]
    claims = [
        Claim.of(
            "Without the mask the held-out loss is lower, since the next token is among the inputs",
            Rule("lower", SMALLEST),
            differences([each.loss for each in control], [each.loss for each in masked]),
            beside=True,
        ),
        Claim.of(
            "The same weights, scored with the mask as a text is written, are worse",
            Rule("higher", SMALLEST),
            differences(scored, [each.loss for each in masked]),
            beside=True,
        ),
    ]
    laws = [
        *laws_of(seen),
        Law.above(
            "The check of changed tokens finds the leak of the model without mask: largest change before the token",
            min(each["leak"] for each in leaky),
            0.0,
        ),
        Law.above(f"Held-out loss of random tokens less ln {V}", chance.loss - math.log(V), -CHANCE),
    ]
    data = {
        "checks": seen[0]["checks"],
        "curves": {MASKED: curves(masked), UNMASKED: curves(control)},
        "losses": {MASKED: [each.loss for each in masked], UNMASKED: [each.loss for each in control]},
        "training_losses": {MASKED: [t.train_loss for t in masked], UNMASKED: [t.train_loss for t in control]},
        "scored_with_mask": scored,
        "uniform": math.log(V),
        "opening": opening(context.corpus),
        "texts": {MASKED: seen[0]["texts"], UNMASKED: leaky[0]["texts"]},
        "maps": {MASKED: seen[0]["map"], UNMASKED: leaky[0]["map"]},
        "random": {"validations": chance.validations, "batch_losses": chance.batch_losses, "loss": chance.loss},
    }
    remarks = [
        "The control is no competitor: its loss is low because the answer is among the inputs. It is there to show "
        "what a leak looks like. Its learning rate was not retuned.",
        f"Random tokens: {len(tokens.train):,} of them, each drawn from all {V:,} alike, none seen twice.",
        f"After {_quoted(opening(context.corpus), 60)}, with the mask, the likeliest text: {_quoted(seen[0]['texts'][0])}",
        f"Trained without it and written with it: {_quoted(leaky[0]['texts'][0])}",
    ]
    return Findings(laws=laws, claims=claims, data=data, remarks=remarks)


def looks_of(context: ExperimentContext) -> Mapping[str, Look]:
    """Return what is looked at. Texts are scored and written with the mask, however the model was trained."""

    def common(model: Decoder) -> dict[str, Any]:
        return {"loss": loss_with_mask(model, context), "texts": texts(model, context.corpus)}

    def with_mask(model: Decoder, corpus: Corpus) -> dict[str, Any]:
        return {**common(model), "checks": check_causal(model).to_dict(), "map": reach(model, passthrough)}

    def without(model: Decoder, corpus: Corpus) -> dict[str, Any]:
        leak = check_causal(model, tap=unmasked())["a changed token"].measured
        return {**common(model), "leak": leak, "map": reach(model, unmasked())}

    def nothing(model: Decoder, corpus: Corpus) -> None:
        return None

    return {MASKED: with_mask, UNMASKED: without, RANDOM: nothing}


def loss_with_mask(model: Decoder, context: ExperimentContext) -> float:
    """Return the held-out loss of these weights in the model's ordinary forward, in nats per token."""
    return held_out_loss(model, context.corpus.held_out, context.corpus, context.config).nats_per_token


def opening(corpus: Corpus) -> str:
    """Return the first words of the held-out text; what follows them is written."""
    ids = corpus.held_out.take(np.arange(1, 1 + OPENING))
    return corpus.tokenizer.decode(ids)


def texts(model: Decoder, corpus: Corpus) -> list[str]:
    """Return what it writes after the opening: the likeliest token each time, and tokens by chance."""
    language = LanguageModel(model, corpus.tokenizer)
    return [language.generate(opening(corpus), seed=1, temperature=t, max_new_tokens=WRITTEN) for t in (0.0, 0.8)]


def reach(model: Decoder, tap: Tap) -> list[list[float]]:
    """(T, T): how strongly prediction i depends on input token j, relative to the strongest of its row."""
    generator = torch.Generator().manual_seed(stream_seed(1, "reach"))
    T = min(LENGTH, model.config.context_length)
    tokens = torch.randint(model.config.vocab_size, (1, T), generator=generator)
    with resting(model):
        sizes = gradient_map(DecoderSubject(model, tap), tokens, generator)
    assert sizes is not None
    rows: list[list[float]] = (sizes / sizes.amax(dim=-1, keepdim=True).clamp_min(1e-30)).tolist()
    return rows


def laws_of(seen: Sequence[Mapping[str, Any]]) -> list[Law]:
    """Return a law for each check, with the worst number of all trained models."""
    laws = []
    for rows in zip(*(each["checks"]["rows"] for each in seen), strict=True):
        if rows[0]["outcome"] == "not applicable":
            continue
        failed = [row for row in rows if row["outcome"] == "failed"]
        row = max(failed or rows, key=lambda row: math.inf if row["measured"] is None else row["measured"])
        measured = math.nan if row["measured"] is None else row["measured"]
        laws.append(Law(row["what"].rstrip("."), measured, row["expected"], not failed))
    return laws


def random_corpus(context: ExperimentContext) -> Corpus:
    """Return tokens drawn from the whole vocabulary alike, as many as training needs without seeing one twice."""
    config = context.config
    V, L = config.model.vocab_size, config.model.context_length
    draw_ = np.random.default_rng(stream_seed(context.seed, RANDOM))
    wanted = (config.training.steps + 1) * config.batches.batch_size * L + 1
    train = TokenFile.from_ids(draw_.integers(V, size=wanted), vocab_size=V)
    held_out = TokenFile.from_ids(draw_.integers(V, size=config.training.eval_tokens + 1), vocab_size=V)
    return dataclasses.replace(context.corpus, train=train, held_out=held_out, digest=train.digest)


def curves(trained: Sequence[Trained]) -> list[list[tuple[int, float]]]:
    """Step and held-out loss, seed by seed."""
    return [list(each.validations) for each in trained]


def _quoted(text: str, longest: int = 160) -> str:
    return '"' + " ".join(text.split())[:longest] + '"'


EXPERIMENT = Experiment(NOTE, plan, run, draw, changes={"unmasked": unmasked})
