"""The text, the model and the settings that experiments start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lightwell.corpus.corpus import Corpus, prepare
from lightwell.errors import VocabularyError
from lightwell.lab.experiments.budget import Budget
from lightwell.training.runs.listener import Listener
from lightwell.training.settings.compose import compose
from lightwell.training.settings.config import RunConfig

BASE: dict[str, Any] = {
    "tokenizer": "bpe", "vocab_size": 512, "context_length": 64, "n_layers": 2, "n_heads": 4, "d_model": 64,
    "batch_size": 16, "optimizer": "adamw", "learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1,
    "warmup_steps": 20, "schedule": "cosine", "final_learning_rate": 0.05, "eval_tokens": 8192,
}  # fmt: skip
"""A model that learns in seconds; AdamW, which all the notes are about, and a schedule that ends low."""
FIXED: dict[str, Any] = {"precision": "fp32", "compile": "off", "device": "cpu", "attention": "fused"}
"""What holds for every experiment: exact arithmetic, and no waiting for a compiler."""


def base_config(texts: Sequence[str], preset: str, corpus: str, budget: Budget) -> RunConfig:
    """Return the configuration before the text is read.

    Raises:
        SettingError: an unknown preset, or two texts.
    """
    chosen: dict[str, Any] = {} if preset else BASE
    settings = {**chosen, **FIXED, "steps": budget.steps}
    if corpus:
        settings["corpus"] = corpus
    return compose(tuple(texts), preset_name=preset, settings=settings)


def opened(config: RunConfig, listener: Listener) -> tuple[RunConfig, Corpus]:
    """Return the text's tokens, and the configuration with the vocabulary that there is.

    Raises:
        TextError: a text that is missing, empty or too short.
    """
    try:
        corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
    except VocabularyError as short:
        corpus = prepare(config.text, short.supported)
        listener.say(f"The vocabulary has {short.supported:,} tokens: this text repeats too little for more.")
    model = dataclasses.replace(config.model, vocab_size=corpus.tokenizer.vocab_size)
    return dataclasses.replace(config, model=model), corpus
