"""The cache of keys and values: generation computes each token once and keeps what later tokens will ask for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightwell.model.config import ModelConfig

FIRST_SLOTS = 1024
"""Slots that a cache begins with."""


class KVCache:
    """Keys and values of the tokens so far, for a batch of rows that advance together.

    Rows with prompts of different lengths are padded on the left; the padding has a document id of its own (-1), so
    that no real token attends to it.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        slots = min(config.context_length, FIRST_SLOTS)
        shape = (config.n_layers, batch_size, config.kv_heads, slots, config.head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.documents = torch.zeros((batch_size, slots), device=device, dtype=torch.int32)
        self.capacity = config.context_length
        """Slots that there may be in all: the context length."""
        self.length = 0
        """Slots in use; the same for every row."""
        self.has_documents = False
        """Whether tokens came with document ids; those that come without have the id 0."""

    def reserve(self, count: int) -> None:
        """Make room for so many more slots; the memory taken is at most twice what is in use, whatever the capacity."""
        slots = self.documents.size(1)
        if self.length + count <= slots:
            return
        more = min(self.capacity, max(2 * slots, self.length + count)) - slots
        self.keys, self.values = (F.pad(kept, (0, 0, 0, more)) for kept in (self.keys, self.values))
        self.documents = F.pad(self.documents, (0, more))

    def layer(self, index: int) -> LayerCache:
        """Return the keys and values of one block, which appends to them."""
        return LayerCache(self.keys[index], self.values[index], self.length)

    def advance(self, documents: Tensor | None, count: int) -> None:
        """Count `count` new slots as used, once every layer has filled them, with their document ids (B, count)."""
        if documents is not None:
            self.documents[:, self.length : self.length + count] = documents
            self.has_documents = True
        self.length += count


class LayerCache:
    """One block's keys and values, (B, G, capacity, K), with `length` slots in use."""

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        self.keys, self.values, self.length = keys, values, length

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v (B, G, T, K); return those of all tokens so far, (B, G, length + T, K)."""
        end = self.length + k.size(2)
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]
