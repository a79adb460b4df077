"""A laboratory on a text of made-up sentences, whose trainings take a moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightwell.lab.cards.card import make_card
from lightwell.lab.cards.figures import drawing
from lightwell.lab.catalogue import experiment
from lightwell.lab.experiments.budget import Budget
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Findings
from lightwell.lab.experiments.setup import base_config, opened
from lightwell.lab.experiments.store import Store
from lightwell.lab.session import Session
from lightwell.training.runs.listener import Listener
from small import small_config, write_text

BRIEF = Budget("glance", seeds=2, steps=3, rates=1, draws=8)
TINY: dict[str, Any] = {
    "tokenizer": "character", "vocab_size": 0, "context_length": 16, "n_heads": 2, "d_model": 16, "batch_size": 4,
    "eval_tokens": 200,
}  # fmt: skip


def laboratory(
    folder: Path, *names: str, out: str = "lab", seed: int = 1, budget: Budget = BRIEF, documents: int = 60,
    on_progress: Callable[[float, float], None] = lambda done, of: None,
) -> Session:  # fmt: skip
    """A session on a small text below `folder`."""
    text = folder / "text"
    if not text.exists():
        write_text(text, documents=documents)
    config = base_config([str(text)], "", "", budget).with_values(TINY)
    config, corpus = opened(config, Listener())
    return Session(
        names, config, corpus, budget, folder / out, lambda name: f"lightwell lab {name}", seed, on_progress=on_progress
    )


def with_seeds(count: int, **changes: Any) -> Budget:
    """The brief budget with another number of seeds."""
    return dataclasses.replace(BRIEF, seeds=count, **changes)


def context_of(
    note: str, folder: Path, budget: str = "glance", *, rates: int = 1, draws: int = 8, documents: int = 12,
    **settings: Any,
) -> ExperimentContext:  # fmt: skip
    """A note's context on a small text and a model of two layers; settings go over those of small.py."""
    config, corpus = opened(small_config(write_text(folder / "text", documents=documents), **settings), Listener())
    made, steps = experiment(note), config.training.steps
    return ExperimentContext(
        note, config, corpus, Budget(budget, seeds=2, steps=steps, rates=rates, draws=draws),
        Store(folder / "lab", corpus.digest), changes=made.changes, probes=made.probes, texts=made.texts,
    )  # fmt: skip


def card_of(context: ExperimentContext, findings: Findings) -> str:
    """The card's JSON, its pictures drawn from what JSON makes of the data."""
    made = experiment(context.note)
    data, timings = json.loads(json.dumps([findings.data, findings.timings]))
    with drawing():
        pictures = made.draw(data, timings)
    assert all(picture.figure.axes and picture.caption for picture in pictures)
    return make_card(made.note, findings, context, pictures, f"lightwell lab {context.note}", 0.0).to_json()


def numbers_of(findings: Findings) -> str:
    """All that is the same each time."""
    judged = [law.to_dict() for law in findings.laws] + [claim.to_dict() for claim in findings.claims]
    return json.dumps([findings.data, judged])
