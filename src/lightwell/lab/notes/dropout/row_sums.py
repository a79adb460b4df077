"""What dropout does to rows of attention weights, and whether it is off in evaluation: measured on a trained model.

For a row a of weights that sums to 1, with each kept with probability 1 - p and then divided by it:

    E[sum] = 1        SD[sum] = sqrt(p / (1 - p) x sum of a_j^2)

The first row has a single weight, 1: it is all zero with probability p. What is measured is read from the taps
"weights" and "dropped" of the model's own forward pass, not from a formula beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from lightwell.batches.batch import Batch
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus
from lightwell.generation.generate import at_rest
from lightwell.model.decoder import Block, Decoder
from lightwell.model.dropout import sample_dropout_mask
from lightwell.model.tap import recording
from lightwell.training.hardware.device import random_state_kept
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss import head_loss
from lightwell.training.update.streams import stream_seed

COPIES = 64
"""How often one window is in a batch; each copy gets a mask of its own."""
PASSES = 32
"""Batches of copies."""
SHOWN = 24
"""Tokens of the window that are drawn."""
SCORED = 4096
"""Tokens that the loss is measured on, with dropout and without."""


def probe_rows(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Read the row sums of the first layer's attention on the first held-out window, and two draws of the mask."""
    batch = next(evaluation_batches(corpus.held_out, model.config.context_length, 1))
    with _seeded_training_mode(model, "rows"):
        sums = row_sums(model, batch.inputs, PASSES)
        attention = FirstAttention(model, batch.inputs)
        (weights, dropped), (_, dropped_again) = attention.draw(), attention.draw()
    n = min(SHOWN, batch.inputs.size(1))
    # The head whose rows are spread the most evenly, so that there is something to see.
    head = int(weights[0].square().sum(-1).mean(-1).argmin())
    return {
        **sums,
        "head": head,
        "words": [corpus.tokenizer.decode([token]) for token in batch.inputs[0, :n].tolist()],
        "before": weights[0, head, :n, :n].tolist(),
        "masked": [each[0, head, :n, :n].tolist() for each in (dropped, dropped_again)],
    }


def probe_modes(model: Decoder, corpus: Corpus, config: RunConfig) -> dict[str, Any]:
    """Read the loss on trained text with dropout on and off, and whether two passes in each mode are the same."""
    L = model.config.context_length
    batches = list(evaluation_batches(corpus.train, L, 32, max_tokens=SCORED))
    with _seeded_training_mode(model, "modes"):
        model.train()
        on, training_repeats = mean_loss(model, batches), repeats(model, batches[0].inputs)
        model.eval()
        off, evaluation_repeats = mean_loss(model, batches), repeats(model, batches[0].inputs)
    return {"on": on, "off": off, "evaluation repeats": evaluation_repeats, "training repeats": training_repeats}


def row_sums(model: Decoder, window: Tensor, passes: int) -> dict[str, Any]:
    """Return the sums of each row after dropout, over COPIES x passes draws of a window (1, T), for all H x T rows.

    The model is in training mode and has an attention_dropout. A row is one query of one head.
    """
    # 1 - p, as it was rounded
    kept_share = sample_dropout_mask((1,), model.config.attention_dropout, window.device).probability
    p = 1.0 - kept_share
    attention = FirstAttention(model, window)
    total = squares = torch.zeros((), dtype=torch.float64)
    emptied = wrong = gone = positive = 0
    for _ in range(passes):
        weights, dropped = attention.draw(COPIES)  # (COPIES, H, T, T) each
        sums = dropped.double().sum(-1)  # (COPIES, H, T)
        total, squares = total + sums.sum(0), squares + sums.square().sum(0)  # (H, T)
        kept = dropped != 0
        emptied += int((~kept[:, :, 0]).all(-1).sum())
        wrong += int((kept & (dropped != weights * (1.0 / kept_share))).sum())
        gone += int(((weights > 0) & ~kept).sum())
        positive += int((weights > 0).sum())
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
        "dropped": gone / positive,
    }


class FirstAttention:
    """The attention of a model's first layer on one window, by itself.

    Its weights are the same in each draw, since no dropout stands before them; and as nothing after it runs, nothing
    else draws from the random stream.
    """

    def __init__(self, model: Decoder, window: Tensor) -> None:
        """Take what the attention is given for a window (1, T), in evaluation mode."""
        self._attention = cast("Block", model.layers[0]).attention
        given: list[tuple[Any, ...]] = []
        hook = self._attention.register_forward_pre_hook(lambda module, inputs: given.append(inputs))
        with at_rest(model):
            model(window)
        hook.remove()
        self._x, self._mask, self._rotation = given[0][:3]

    @torch.no_grad()
    def draw(self, copies: int = 1) -> tuple[Tensor, Tensor]:
        """Return the weights before and after dropout, (copies, H, T, T) each, every copy with a mask of its own."""
        values: dict[str, Tensor] = {}
        self._attention(self._x.expand(copies, -1, -1), self._mask, self._rotation, tap=recording(values))
        return values["weights"], values["dropped"]


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
def _seeded_training_mode(model: Decoder, name: str) -> Iterator[None]:
    """Put the model into training mode, with masks that follow from the name; afterwards all is as it was before."""
    was_training = model.training
    with random_state_kept(torch.device("cpu")):
        torch.manual_seed(stream_seed(0, name))
        model.train()
        try:
            yield
        finally:
            model.train(was_training)
