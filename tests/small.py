"""Small texts and small runs that tests train in a fraction of a second."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from lightwell.training.checkpoints.checkpoint import checkpoint_folder, checkpoint_steps, load_checkpoint
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.compose import compose
from lightwell.training.settings.config import RunConfig
from lightwell.training.start import train

WORDS = ["light", "well", "the", "a", "rain", "stone", "moss", "falls", "into", "deep", "still", "and", "green"]

SMALL: dict[str, Any] = {
    "tokenizer": "character",
    "context_length": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_model": 16,
    "batch_size": 4,
    "micro_batch_size": 2,
    "steps": 6,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "beta1": 0.9,
    "muon_momentum": 0.9,
    "schedule": "cosine",
    "decay_fraction": 0.3,
    "final_learning_rate": 0.05,
    "warmup_steps": 2,
    "eval_every": 3,
    "eval_tokens": 200,
    "sample_every": 3,
    "max_new_tokens": 8,
    "checkpoint_every": 2,
    "keep_checkpoints": 100,
    "embedding_dropout": 0.1,
    "attention_dropout": 0.1,
    "residual_dropout": 0.1,
    "precision": "fp32",
    "device": "cpu",
}


class StopAt(Listener):
    """Presses Ctrl-C during a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, record: dict[str, Any]) -> None:
        if record["step"] == self.step:
            signal.raise_signal(signal.SIGINT)


class Heard(Listener):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def write_text(folder: Path, documents: int = 12, sentences: int = 8) -> Path:
    """A folder of small documents of made-up sentences, always the same ones."""
    draw = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        lines = [" ".join(draw.choices(WORDS, k=7)) + "." for _ in range(sentences)]
        (folder / f"{number:02}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def word_tokenizer(folder: Path, vocabulary: dict[str, int], unknown: str | None = None) -> str:
    """The path of a tokenizer's file that knows some words, and drops others or makes one token of them."""
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges=[]) if unknown is None else models.WordLevel(vocabulary, unk_token=unknown)
    )
    backend.pre_tokenizer = None if unknown is None else pre_tokenizers.Whitespace()
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(["</s>"])
    backend.save(str(folder / "words.json"))
    return str(folder / "words.json")


def system_error(code: int) -> OSError:
    """What the system raises for a number of errno."""
    return OSError(code, os.strerror(code))


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that fails so, whatever it is given."""

    def fail(*given: Any, **named: Any) -> Any:
        raise error

    return fail


def small_config(text: Path, **settings: Any) -> RunConfig:
    """A configuration whose training takes a moment; keywords are fields of any section."""
    lengths = {"epochs", "minutes"} & settings.keys()
    base = {name: value for name, value in SMALL.items() if not (lengths and name == "steps")}
    return compose((str(text),), settings={**base, **settings})


def small_run(text: Path, out: Path, listener: Listener | None = None, **settings: Any) -> Run:
    """Train it."""
    return train(small_config(text, **settings), out=out, listener=listener)


def final_state(run: Run) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of the last checkpoint."""
    saved = load_checkpoint(checkpoint_folder(run.checkpoints, checkpoint_steps(run.checkpoints)[-1]))
    return {**saved.model, **{f"optimizer.{name}": tensor for name, tensor in saved.training.items()}}


def same_bits(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states have the same names and the same bits."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


TIMINGS = {"tokens_per_second", "seconds", "memory_bytes"}


def untimed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without what differs from one moment to the next."""
    return [{name: value for name, value in record.items() if name not in TIMINGS} for record in records]
