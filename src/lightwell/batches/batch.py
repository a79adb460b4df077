"""A batch: what the model reads at once, and what it should have said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightwell.tokens.token_file import TokenFile

IGNORE = -100
"""The target of a position that is not counted: what torch's cross_entropy ignores by default."""

PADDING = -1
"""The document id of padding, so that no token of a text attends to it."""


@dataclass(frozen=True)
class Spans:
    """Where windows stand in the tokens: row b reads `lengths[b]` tokens from `starts[b]` on.

    Its targets are the same tokens one further on. The first `n_context[b]` of them are context only, not counted.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_context: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of T tokens.

    inputs: (B, T) int64 token ids. targets: (B, T) int64, the token after each input, or IGNORE where nothing is
    counted. documents: (B, T) int32, which document each input belongs to, or None where windows may look across.
    """

    inputs: Tensor
    targets: Tensor
    documents: Tensor | None = None

    @property
    def counted(self) -> int:
        """Return how many targets are counted: the divisor of the loss."""
        return int((self.targets != IGNORE).sum())

    def rows(self, rows: slice) -> Batch:
        """Return some of the rows."""
        documents = None if self.documents is None else self.documents[rows]
        return Batch(self.inputs[rows], self.targets[rows], documents)

    def split(self, micro_batch_size: int) -> list[Batch]:
        """Return the same rows as batches of at most `micro_batch_size`; 0 keeps them together."""
        if micro_batch_size == 0:
            return [self]
        inputs, targets = torch.split(self.inputs, micro_batch_size), torch.split(self.targets, micro_batch_size)
        documents = [None] * len(inputs) if self.documents is None else torch.split(self.documents, micro_batch_size)
        return [Batch(*parts) for parts in zip(inputs, targets, documents, strict=True)]

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        documents = None if self.documents is None else self.documents.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), documents)


def read_batch(tokens: TokenFile, spans: Spans, context_length: int, *, with_documents: bool = False) -> Batch:
    """Read windows out of the tokens; those shorter than `context_length` T are padded at the end.

    Padding stands after the text and its targets are IGNORE, so what its input is (0) makes no difference.
    """
    place = np.arange(context_length)
    starts, lengths, n_context = spans.starts[:, None], spans.lengths[:, None], spans.n_context[:, None]
    padding = place >= lengths  # (B, T)
    index = starts + np.minimum(place, lengths - 1)  # (B, T), never beyond a window's last input
    inputs = np.where(padding, 0, tokens.take(index))
    targets = np.where(padding | (place < n_context), IGNORE, tokens.take(index + 1))
    documents = None
    if with_documents:
        # The end-of-text token that opens a document belongs to it.
        ids = np.searchsorted(tokens.offsets, index, side="right")
        documents = torch.from_numpy(np.where(padding, PADDING, ids).astype(np.int32))
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), documents)
