"""A laboratory on a text of made-up sentences, whose trainings take a moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightwell.lab.budget import Budget
from lightwell.lab.session import Session
from lightwell.lab.setup import base_config, opened
from lightwell.training.listener import Listener
from small import write_text

BRIEF = Budget("glance", seeds=2, steps=3, rates=1, draws=8)
TINY: dict[str, Any] = {
    "tokenizer": "character", "vocab_size": 0, "context_length": 16, "n_heads": 2, "d_model": 16, "batch_size": 4,
    "eval_tokens": 200,
}  # fmt: skip


def laboratory(
    folder: Path, *names: str, out: str = "lab", seed: int = 1, budget: Budget = BRIEF, documents: int = 60,
    told: Callable[[float, float], None] = lambda done, of: None,
) -> Session:  # fmt: skip
    """A session on a small text below `folder`."""
    text = folder / "text"
    if not text.exists():
        write_text(text, documents=documents)
    config = base_config([str(text)], "", "", budget).with_values(TINY)
    config, corpus = opened(config, Listener())
    return Session(names, config, corpus, budget, folder / out, lambda name: f"lightwell lab {name}", seed, told)


def with_seeds(count: int, **changes: Any) -> Budget:
    """The brief budget with another number of seeds."""
    return dataclasses.replace(BRIEF, seeds=count, **changes)
