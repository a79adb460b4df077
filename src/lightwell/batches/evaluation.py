"""Evaluation windows: every target of a held-out text is scored exactly once.

    stride s = L    windows side by side: the first target of each is predicted from one token of context
    stride s < L    windows overlap: each after the first scores only its last s targets, and uses the L - s before
                    them as context, so that the model is judged with at least L - s + 1 tokens in view

Overlap costs L / s times as much. Where a model can use the context, its loss is lower (GPT-2 large on WikiText-2:
perplexity 19.44 with stride 1024, 16.44 with 512); that of small models on small texts often is not. Here the
tail is scored too, in a padded window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightwell.batches.batch import Batch, Spans, read_batch
from lightwell.errors import SettingError, TextError
from lightwell.tokens.token_file import TokenFile


def evaluation_batches(
    tokens: TokenFile,
    context_length: int,
    batch_size: int,
    *,
    stride: int = 0,
    max_tokens: int = 0,
    boundaries: str = "cross",
) -> Iterator[Batch]:
    """Return batches of at most `batch_size` windows whose counted targets are tokens 1..N-1, each once, in order.

    A target is scored by the first window of the grid that holds it: the one that gives it the most context.
    stride 0 means `context_length`; max_tokens scores only that many targets from the start, 0 all of them.
    `boundaries` is document_boundaries, as the model was trained: cross lays one grid over the text, mask too but
    hides other documents, cut begins a grid, and the positions, anew at each document.

    Raises:
        SettingError: a stride beyond the context length, which would leave targets out.
        TextError: fewer than two tokens, so that there is nothing to predict.
    """
    stride = stride or context_length
    if stride > context_length:
        raise SettingError(
            f"The evaluation stride is {stride}, but must be at most the context_length {context_length}, "
            "so that every token is scored."
        )
    targets = len(tokens.tokens) - 1
    if targets < 1:
        raise TextError(f"The text has {targets + 1} tokens, but scoring needs at least 2; give more text.")
    if max_tokens:
        targets = min(targets, max_tokens)
    edges = np.array([0, targets])
    if boundaries == "cut":
        edges = np.append(tokens.offsets[tokens.offsets < targets], targets)
    return _batches(tokens, context_length, batch_size, stride, edges, boundaries == "mask")


def _batches(
    tokens: TokenFile, context_length: int, batch_size: int, stride: int, edges: NDArray[np.int64], documents: bool
) -> Iterator[Batch]:
    """Yield windows over each stretch of targets between two `edges`, which are positions of inputs."""
    lengths = np.diff(edges)
    windows = 1 + np.maximum(0, -((context_length - lengths) // stride))  # until one reaches a stretch's last target
    first_window = np.concatenate(([0], np.cumsum(windows)))
    for first in range(0, int(first_window[-1]), batch_size):
        number = np.arange(first, min(first + batch_size, int(first_window[-1])))
        stretch = np.searchsorted(first_window, number, side="right") - 1
        within = (number - first_window[stretch]) * stride  # from the start of its stretch
        n_context = np.where(within == 0, 0, context_length - stride)
        spans = Spans(edges[stretch] + within, np.minimum(context_length, lengths[stretch] - within), n_context)
        yield read_batch(tokens, spans, context_length, with_documents=documents)
