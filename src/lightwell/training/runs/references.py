"""Reference lines: what a loss must be compared with before it can be called good. All in nats per token.

    uniform           ln V: knows nothing; where training starts
    unigram_loss      knows how often each token occurs
    bigram_loss       knows the token before, and nothing else
    unigram_entropy,  the same two without the price of generalising: entropies of the training tokens themselves
    bigram_entropy

A model below bigram_loss has learned to look further back than one token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightwell.tokens.token_file import TokenArray, TokenFile

Ids = NDArray[Any]
Counts = NDArray[np.int64]

# Counting pairs sorts them, so memory grows with the tokens; 2^24 of them take about half a gigabyte and some seconds,
# and entropies of the common pairs do not change beyond that.
_MOST_TOKENS = 1 << 24
_PIECES = 64
_SCORED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class References:
    """The reference losses of a text, in nats per token."""

    uniform: float
    """The loss of a uniform guess, ln V."""
    unigram_entropy: float
    """H(token) of the training tokens."""
    bigram_entropy: float
    """H(token | the one before) of the training tokens."""
    unigram_loss: float
    """Held-out loss of the training tokens' frequencies, each count plus one (Laplace)."""
    bigram_loss: float
    """Held-out loss of the training pairs' frequencies, Witten-Bell smoothed with the unigram."""
    bytes_per_token: float
    """Bytes of UTF-8 text that a held-out token stands for, which turns nats per token into bits per byte."""

    def to_dict(self) -> dict[str, float]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def measure_references(train: TokenFile, held_out: TokenFile, byte_lengths: Ids, max_tokens: int = 0) -> References:
    """Fit on the training tokens; score the first `max_tokens` held-out targets (0: all), as a model is scored.

    byte_lengths (V,): UTF-8 bytes that each token stands for. Of a training text beyond 2^24 tokens, that many in
    evenly spaced pieces stand for the whole; held-out tokens are scored piece by piece, in bounded memory.
    """
    vocab_size = len(byte_lengths)
    unigram = _count_tokens(train.tokens, vocab_size)
    keys, pairs = _count_pairs(train.tokens, vocab_size)
    firsts = np.bincount(keys // vocab_size, weights=pairs, minlength=vocab_size).astype(np.int64)  # c(h)
    token = (unigram + 1) / (unigram.sum() + vocab_size)
    bigram = _WittenBell(token, keys, pairs, firsts, np.bincount(keys // vocab_size, minlength=vocab_size))
    scored = held_out.tokens[: max_tokens + 1 if max_tokens else None]
    targets = len(scored) - 1
    bigram_nats, occurrences = 0.0, np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, targets, _SCORED_AT_ONCE):
        piece = np.asarray(scored[start : start + _SCORED_AT_ONCE + 1], dtype=np.int64)
        # Each different pair is looked up once, and in order: random places in a large table are slow to reach.
        wanted, times = np.unique(piece[:-1] * vocab_size + piece[1:], return_counts=True)
        bigram_nats -= float(times @ np.log(bigram(wanted)))
        occurrences += np.bincount(piece[1:], minlength=vocab_size)
    return References(
        uniform=math.log(vocab_size),
        unigram_entropy=_entropy(unigram),
        bigram_entropy=_entropy(pairs) - _entropy(firsts),  # H(b | a) = H(a, b) - H(a)
        unigram_loss=-float(occurrences @ np.log(token)) / targets,
        bigram_loss=bigram_nats / targets,
        bytes_per_token=float(occurrences @ byte_lengths) / targets,
    )


@dataclass(frozen=True, eq=False)
class _WittenBell:
    """The smoothed bigram of Witten & Bell 1991, method C.

    p(w | h) = (c(h, w) + T(h) p(w)) / (c(h) + T(h)), with T(h) the number of different tokens that follow h; p(w) after
    an h that never occurred.
    """

    token: Ids
    """(V,) p(w)."""
    keys: Counts
    """(P,) the pairs that occur, as sorted h * V + w."""
    pairs: Counts
    """(P,) c(h, w) of each."""
    firsts: Counts
    """(V,) c(h)."""
    followers: Counts
    """(V,) T(h)."""

    def __call__(self, wanted: Counts) -> Ids:
        """(N,) probabilities of N pairs, given as keys."""
        before, after = np.divmod(wanted, len(self.token))
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        count = np.where(self.keys[at] == wanted, self.pairs[at], 0)
        total = self.firsts[before] + self.followers[before]
        mixed = (count + self.followers[before] * self.token[after]) / np.maximum(total, 1)
        return np.where(total > 0, mixed, self.token[after])


def _count_tokens(tokens: TokenArray, vocab_size: int) -> Counts:
    counts = np.zeros(vocab_size, dtype=np.int64)
    for piece in _pieces(tokens):
        counts += np.bincount(piece, minlength=vocab_size)
    return counts


def _count_pairs(tokens: TokenArray, vocab_size: int) -> tuple[Counts, Counts]:
    """Return the pairs that occur as sorted keys a * V + b, and how often each does; V^2 would be possible."""
    keys = np.concatenate([piece[:-1].astype(np.int64) * vocab_size + piece[1:] for piece in _pieces(tokens)])
    return np.unique(keys, return_counts=True)


def _pieces(tokens: TokenArray) -> Iterator[Ids]:
    """Yield the tokens as one piece, or, where they are too many, evenly spaced ones."""
    if len(tokens) <= _MOST_TOKENS:
        yield tokens[:]
        return
    length = _MOST_TOKENS // _PIECES
    for start in np.linspace(0, len(tokens) - length, _PIECES, dtype=np.int64):
        yield tokens[start : start + length]


def _entropy(counts: Counts) -> float:
    """-sum p ln p of the frequencies."""
    present = counts[counts > 0]
    total = present.sum()
    return float(np.log(total) - (present * np.log(present)).sum() / total)
