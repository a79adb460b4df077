"""What dropout does to rows of attention weights, and whether it is off in evaluation: measured on a trained model.

For a row a of weights that sums to 1, with each kept with probability 1 - p and then divided by it:

    E[sum] = 1        SD[sum] = sqrt(p / (1 - p) x sum of a_j^2)

The first row has a single weight, 1: it is all zero with probability p. What is measured is read from the taps
"weights" and "dropped" of the model's own forward pass, not from a formula beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from lightwell.batches.batch import Batch
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus
from lightwell.model.decoder import Decoder
from lightwell.model.dropout import sample_dropout_mask
from lightwell.training.hardware.device import random_state_kept
from lightwell.training.update.loss import head_loss
from lightwell.training.update.streams import stream_seed

COPIES = 64
"""Of one window in a batch: each gets a mask of its own."""
PASSES = 32
SHOWN = 24
"""Tokens of the window that are drawn."""
LAYER = "layers.0.attention"
"""The first layer's weights are the same in each draw, since no dropout stands before them."""
SCORED = 4096
"""Tokens that the loss is measured on, with dropout and without."""


def look_rows(model: Decoder, corpus: Corpus) -> dict[str, Any]:
    """Row sums of the first layer's attention on the first held-out window, and two draws of the mask."""
    batch = next(evaluation_batches(corpus.held_out, model.config.context_length, 1))
    with _drawing(model, "rows"):
        sums = row_sums(model, batch.inputs, PASSES)
        shown = [weights_and_dropped(model, batch.inputs) for _ in range(2)]
    n = min(SHOWN, batch.inputs.size(1))
    head = evenest_head(shown[0][0][0])
    return {
        **sums,
        "head": head,
        "words": [corpus.tokenizer.decode([token]) for token in batch.inputs[0, :n].tolist()],
        "before": shown[0][0][0, head, :n, :n].tolist(),
        "masked": [dropped[0, head, :n, :n].tolist() for _, dropped in shown],
    }


def look_modes(model: Decoder, corpus: Corpus) -> dict[str, Any]:
    """Return the loss on trained text with dropout on and off, and whether each mode does what it should."""
    L = model.config.context_length
    batches = list(evaluation_batches(corpus.train, L, 32, max_tokens=SCORED))
    with _drawing(model, "modes"):
        return {
            "on": mean_loss(model.train(), batches),
            "off": mean_loss(model.eval(), batches),
            "evaluation repeats": repeats(model.eval(), batches[0].inputs),
            "training repeats": repeats(model.train(), batches[0].inputs),
        }


def row_sums(model: Decoder, window: Tensor, passes: int) -> dict[str, Any]:
    """Sums of each row after dropout, over COPIES x passes draws: window (1, T) -> numbers for all H x T rows.

    The model is in training mode and has an attention_dropout. A row is one query of one head.
    """
    kept_share = sample_dropout_mask(
        (1,), model.config.attention_dropout, window.device
    ).probability  # 1 - p, as it was rounded
    p = 1.0 - kept_share
    copies = window.expand(COPIES, -1)
    total = torch.zeros(0)
    squares, emptied, wrong, gone, seen = total, 0, 0, 0, 0
    for _ in range(passes):
        weights, dropped = weights_and_dropped(model, copies)  # (COPIES, H, T, T) each
        sums = dropped.double().sum(-1)  # (COPIES, H, T)
        total = sums.sum(0) if not seen else total + sums.sum(0)
        squares = sums.square().sum(0) if not seen else squares + sums.square().sum(0)
        kept = dropped != 0
        emptied += int((~kept[:, :, 0]).all(-1).sum())
        wrong += int((kept & (dropped != weights * (1.0 / kept_share))).sum())
        gone += int(((weights > 0) & ~kept).sum())
        seen += int((weights > 0).sum())
    draws = COPIES * passes
    mean = total / draws  # (H, T)
    spread = ((squares - draws * mean.square()) / (draws - 1)).clamp(min=0.0).sqrt()
    predicted = (p / (1.0 - p) * weights[0].double().square().sum(-1)).sqrt()
    return {
        "p": p,
        "draws": draws,
        "mean": mean.tolist(),
        "spread": spread.tolist(),
        "predicted": predicted.tolist(),
        "first row empty": emptied / (draws * mean.size(0)),
        "wrongly scaled": wrong,
        "dropped": gone / seen,
    }


class _EnoughError(Exception):
    """What comes after the tapped value is not wanted."""


@torch.no_grad()
def weights_and_dropped(model: Decoder, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Attention weights of the first layer before and after dropout, (B, H, T, T) each; tokens (B, T)."""
    seen: dict[str, Tensor] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        if name == f"{LAYER}.dropped":
            raise _EnoughError
        return value

    with suppress(_EnoughError):
        model(tokens, tap=tap)
    return seen[f"{LAYER}.weights"], seen[f"{LAYER}.dropped"]


def evenest_head(weights: Tensor) -> int:
    """Return the head whose rows are spread the most evenly, so that there is something to see: weights (H, T, T)."""
    return int(weights.square().sum(-1).mean(-1).argmin())


@torch.no_grad()
def mean_loss(model: Decoder, batches: list[Batch]) -> float:
    """Return nats per counted token, in the mode that the model is in."""
    hidden = (model.hidden(batch.inputs, documents=batch.documents) for batch in batches)
    nats = sum(head_loss(model, x, batch.targets).item() for x, batch in zip(hidden, batches, strict=True))
    return nats / sum(batch.counted for batch in batches)


@torch.no_grad()
def repeats(model: Decoder, tokens: Tensor) -> bool:
    """Return whether two forward passes, one after the other, give the same bits: tokens (B, T)."""
    return torch.equal(model(tokens), model(tokens))


@contextmanager
def _drawing(model: Decoder, name: str) -> Iterator[None]:
    """A training-mode model whose masks follow from the name; mode and random state are as before afterwards."""
    was_training = model.training
    with random_state_kept(torch.device("cpu")):
        torch.manual_seed(stream_seed(0, name))
        model.train()
        try:
            yield
        finally:
            model.train(was_training)
