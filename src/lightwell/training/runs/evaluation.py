"""How good a model is on held-out tokens: nats per token, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightwell.batches.batch import IGNORE, Batch
from lightwell.corpus.corpus import spelt_bytes
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.tokens.token_file import TokenFile
from lightwell.training.hardware.device import compute_dtype
from lightwell.training.update.loss import head_loss


@dataclass(frozen=True)
class Evaluation:
    """The mean over `tokens` scored targets, which stand for `bytes` bytes of UTF-8 text."""

    nats_per_token: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int

    def to_dict(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: Decoder,
    batches: Iterable[Batch],
    byte_lengths: NDArray[Any],
    precision: str = "fp32",
    tap: Tap = passthrough,
) -> Evaluation:
    """Score every counted target with dropout off; the model goes back to the mode it was in.

    byte_lengths (V,) holds the UTF-8 bytes that each token stands for; an end-of-text token stands for none, though its
    loss counts. tap: what the model's intermediates go through.
    """
    device = next(model.parameters()).device
    lengths = torch.from_numpy(byte_lengths).to(device)
    was_training = model.training
    model.eval()
    nats, tokens, size = 0.0, 0, 0.0
    try:
        for batch in batches:
            moved = batch.to(device)
            counted = moved.targets != IGNORE  # (B, T); overlapping windows count few, and only those need logits
            targets = moved.targets[counted]  # (N,)
            x = model.hidden(moved.inputs, documents=moved.documents, dtype=compute_dtype(precision), tap=tap)
            nats += head_loss(model, x[counted], targets).item()
            tokens += len(targets)
            size += float(lengths[targets].double().sum())
    finally:
        model.train(was_training)
    return evaluation(nats, tokens, round(size))


def true_byte_lengths(tokens: TokenFile, byte_lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """(V,) UTF-8 bytes that each token stands for, on average over this text.

    The tokenizers made here spell every byte, so their `byte_lengths` are exact. One from a file may change or drop
    characters, and what its tokens spell is then not what was in the text: scaled, they add up to the text's bytes.
    """
    spelt = spelt_bytes(tokens, byte_lengths)
    if not tokens.text_bytes or not spelt:  # ids without a text
        return byte_lengths.astype(np.float64)
    return byte_lengths.astype(np.float64) * (tokens.text_bytes / spelt)


def evaluation(nats: float, tokens: int, size: int) -> Evaluation:
    """Return the means from the sums: nats over `tokens` targets that stand for `size` bytes."""
    mean = nats / tokens
    perplexity = math.exp(mean) if mean < 700 else math.inf  # exp overflows a float at 709.8
    return Evaluation(mean, perplexity, nats / math.log(2) / size if size else math.inf, tokens, size)
