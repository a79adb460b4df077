"""How often each token of a text is a target, and whether training and held-out windows share one.

Both are counted, not computed: a text whose token ids are its positions goes through the very loader that trains, and
the targets of its batches then say which positions they came from.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightwell.batches.batch import IGNORE, Batch, read_batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.batches.windows import Windows
from lightwell.lab.verdicts.verdict import Law
from lightwell.tokens.token_file import TokenFile

MOST_READ = 1 << 24
"""Tokens of a text in which documents and stretches are looked for."""
Integers = NDArray[np.int64]
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd and large, so that sums of its powers times ids differ where the ids do (Karp and Rabin 1987), mod 2^64."""


def numbered(tokens: TokenFile, first: int = 0, of: int = 0) -> TokenFile:
    """Return the same documents with positions for ids: first, first + 1, ..., out of `of` in all."""
    ids = np.arange(first, first + len(tokens))
    return TokenFile.from_ids(ids, vocab_size=max(of, first + len(tokens)), offsets=tokens.offsets)


def epoch_batches(loader: BatchLoader, epochs: int = 1) -> Iterator[Batch]:
    """Yield the batches of whole epochs; the last one is cut where it runs into the next."""
    left, step = loader.windows * epochs, 0
    while left > 0:
        batch = loader.batch(step)
        yield batch.part(slice(0, left))
        left, step = left - len(batch.targets), step + 1


def exposures(loader: BatchLoader, epochs: int = 1) -> Integers:
    """(N,) how often each token is a target. The loader's tokens are `numbered` from 0."""
    counts = np.zeros(len(loader.tokens), dtype=np.int64)
    for batch in epoch_batches(loader, epochs):
        targets = batch.targets[batch.targets != IGNORE].numpy()
        counts += np.bincount(targets, minlength=len(counts))
    return counts


def interior(counts: Integers, windows: int, context_length: int, stride: int) -> Integers:
    """Return those of the tokens that are away from both edges: all windows that could hold them are there.

    Token p is a target of window i where i s < p <= i s + L. From p = L on none lies before the text, and up to
    p = n s none after its last window.
    """
    return counts[context_length : windows * stride + 1]


def exposure_row(loader: BatchLoader, L: int, stride: int, random: bool = False) -> dict[str, Any]:
    """Return what a loader over `numbered` tokens shows in an epoch, counted."""
    counts = exposures(loader)
    times, of_tokens = np.unique(counts[1:], return_counts=True)
    inside = interior(counts, loader.windows, L, stride)
    return {
        "stride": stride,
        "random": random,
        "windows": loader.windows,
        "windows_expected": -((L - len(counts)) // stride),
        "times": times.tolist(),
        "tokens": of_tokens.tolist(),
        "inside": [int(inside.min()), int(inside.max())] if len(inside) else [],
        "between": int((counts[1 : (loader.windows - 1) * stride + 1] == 0).sum()),
        "mean": float(counts[1:].mean()),
        "start": counts[: 3 * L].tolist(),
    }


def exposure_laws(counted: Sequence[Mapping[str, Any]], L: int) -> list[Law]:
    """Return the number of windows, L / s times away from the edges, and what strides beyond L leave out."""
    laws = []
    for row in counted:
        s = row["stride"]
        if row["random"]:
            continue
        laws.append(Law.near(f"Windows at stride {s}", row["windows"], row["windows_expected"], 0))
        if s <= L and row["inside"]:  # else the text is all edges
            low, high = row["inside"]
            wrong = max(L // s - low, high + (-L // s))  # where s does not divide L, both neighbours occur
            laws.append(
                Law(f"Times that a token away from the edges is a target, stride {s}", (low + high) / 2,
                    f"{L / s:g}, for each of them", wrong <= 0)
            )  # fmt: skip
        elif s > L:
            laws.append(
                Law.near(f"Tokens that are left out between windows, stride {s}", row["between"],
                         (s - L) * (row["windows"] - 1), 0)
            )  # fmt: skip
    return laws


def shared_tokens(training: Iterable[Batch], held_out: Iterable[Batch]) -> int:
    """Return how many of the tokens in the held-out windows are in a training window, too; their tokens are `numbered`."""
    return len(np.intersect1d(_positions(training), _positions(held_out)))


def _positions(batches: Iterable[Batch]) -> Integers:
    """Return all positions that windows touch, inputs and targets."""
    found = [np.zeros(0, dtype=np.int64)]
    for batch in batches:
        counted = batch.targets != IGNORE
        # Inputs at padding are 0, which is a position; a row's real ones stand just before its counted targets.
        real = counted.int().flip(1).cummax(1).values.flip(1).bool()
        found.append(np.unique(np.concatenate([batch.inputs[real].numpy(), batch.targets[counted].numpy()])))
    return np.unique(np.concatenate(found))


def split_after_windowing(tokens: TokenFile, context_length: int, stride: int, every: int = 10) -> tuple[Batch, Batch]:
    """Return the usual mistake: windows are cut first, and then each tenth is held out. Training and held-out windows.

    The tokens are `numbered`; with stride < context_length both sides share tokens.
    """
    windows = Windows(tokens, context_length, BatchConfig(stride=stride), seed=0)
    numbers = np.arange(len(windows))
    whole = read_batch(tokens, windows.spans(numbers, np.zeros_like(numbers)), context_length)
    held = numbers % every == every // 2
    return (
        Batch(whole.inputs[~held], whole.targets[~held]),
        Batch(whole.inputs[held], whole.targets[held]),
    )


def shared_documents(training: TokenFile, held_out: TokenFile) -> tuple[int, int]:
    """Return how many of the held-out documents are training documents as well, word for word; of all. At most
    MOST_READ tokens of each are read.
    """
    known, asked = set(_documents(training)), list(_documents(held_out))
    return sum(document in known for document in asked), len(asked)


def _documents(tokens: TokenFile) -> Iterator[bytes]:
    """Yield the hash of each document, without the token that opens it."""
    for start, end in itertools.pairwise(tokens.offsets.tolist()):
        if end > MOST_READ:
            break
        yield hashlib.sha256(tokens.take(np.arange(start + 1, end)).tobytes()).digest()


def word_for_word(training: TokenFile, held_out: TokenFile, length: int) -> tuple[int, int]:
    """Return how many of the held-out stretches of so many tokens, side by side, occur anywhere in the training text;
    of all.

    That is no leak of windows but of the text itself, which repeats: found by rolling hashes, (N,) each.
    """
    if min(len(training), len(held_out)) < length:
        return 0, 0
    known = np.unique(_hashes(training, length))
    asked = _hashes(held_out, length)[::length]
    return int(np.isin(asked, known).sum()), len(asked)


def _hashes(tokens: TokenFile, length: int) -> NDArray[np.uint64]:
    """(N - length + 1,) of each stretch of `length` tokens, of the first MOST_READ."""
    ids = tokens.take(np.arange(min(len(tokens), MOST_READ))).astype(np.uint64) + np.uint64(1)
    count = len(ids) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        total = total * HASH_BASE + ids[place : place + count]
    return total
