"""The rolling context: which tokens the model sees when a text outgrows its context length.

While n tokens fit the context length L, the model sees them all. Then the start moves on in hops of L / 4: after a hop
three quarters of the context are filled, and each token of the next quarter costs one token's work. A start that moved
with every token would have all of the context computed anew every time, as each key and value depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightwell.batches.batch import PADDING
from lightwell.model.cache import KVCache
from lightwell.model.decoder import Decoder

TEXT = 0
"""The document id of every token that is not padding."""


def context_start(n: int, context_length: int) -> int:
    """Return the first of n tokens that the model sees: 0 while all fit, then a multiple of the hop."""
    hop = max(1, context_length // 4)
    beyond = max(0, n - context_length)
    return -(-beyond // hop) * hop


class RollingContext:
    """Reads texts of different lengths as one batch, each within its own context, with a cache of keys and values.

    Rows are padded on the left, so that all end in the same slot of the cache, and are read anew when the start of one
    of them moves. A row's logits are those that it has without cache, padding or other rows (law 8).
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._device = decoder.token_embedding.weight.device
        self._cache: KVCache | None = None
        self._padded = False
        self._rows: list[int] = []  # the rows in the cache, in its order
        self._starts: dict[int, int] = {}  # the first token that each of them sees

    def logits(self, texts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """Return logits (B, V) for the token after each `texts[row]`, for B different rows whose text is not empty.

        Each of these rows must be one token longer than at the last call. Rows that are no longer asked for stay in the
        cache, unread, until it is filled the next time.
        """
        L = self._decoder.config.context_length
        starts = {row: context_start(len(texts[row]), L) for row in rows}
        moved = any(self._starts.get(row) != start for row, start in starts.items())
        if self._cache is None or moved or self._cache.length == L:
            self._rows, self._starts = list(rows), starts
            x = self._read([texts[row][start:] for row, start in starts.items()])
        else:
            x = self._read_on(self._cache, [texts[row][self._starts[row] :] for row in self._rows])
        return self._decoder.head(x[[self._rows.index(row) for row in rows]])

    def _read(self, texts: list[Sequence[int]]) -> Tensor:
        """Fill a new cache with the texts; return the end of the residual stream at their last tokens, (B, D)."""
        B, T = len(texts), max(map(len, texts))
        dtype = self._decoder.token_embedding.weight.dtype
        self._cache = KVCache(self._decoder.config, B, device=self._device, dtype=dtype)
        self._padded = any(len(text) < T for text in texts)
        tokens, positions = torch.zeros(B, T, dtype=torch.int64), torch.zeros(B, T, dtype=torch.int64)
        documents = torch.full((B, T), PADDING, dtype=torch.int32)
        for b, text in enumerate(texts):
            padding = T - len(text)
            tokens[b, padding:] = torch.tensor(text)
            positions[b, padding:] = torch.arange(len(text))
            documents[b, padding:] = TEXT
        return self._hidden(self._cache, tokens, positions, documents)

    def _read_on(self, cache: KVCache, texts: list[Sequence[int]]) -> Tensor:
        """Add the last token of each text to the cache; return the end of the residual stream there, (B, D)."""
        tokens = torch.tensor([[text[-1]] for text in texts])
        positions = torch.tensor([[len(text) - 1] for text in texts])
        return self._hidden(cache, tokens, positions, torch.full_like(tokens, TEXT, dtype=torch.int32))

    def _hidden(self, cache: KVCache, tokens: Tensor, positions: Tensor, documents: Tensor) -> Tensor:
        tokens = tokens.to(self._device)
        if self._padded:
            positions, documents = positions.to(self._device), documents.to(self._device)
            return self._decoder.hidden(tokens, positions=positions, documents=documents, cache=cache)[:, -1]
        return self._decoder.hidden(tokens, cache=cache)[:, -1]  # without padding attention needs no mask
