"""Whether training and held-out windows share a token, and how much of a text occurs twice in it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lightwell.batches.batch import IGNORE, Batch, read_batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.evaluation import evaluation_batches
from lightwell.batches.loader import BatchLoader
from lightwell.batches.windows import Windows
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.prefix import prefix_of
from lightwell.lab.notes.stride.arms import stride_of
from lightwell.lab.notes.stride.exposure import COUNTED, Integers, epoch_batches, numbered
from lightwell.lab.verdicts.verdict import Law
from lightwell.tokens.token_file import TokenFile

MOST_READ = 1 << 24
"""Tokens of a text in which documents and stretches are searched for."""
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd and large, so that sums of its powers times ids differ where the ids do (Karp and Rabin 1987), mod 2^64."""


def find_leaks(context: ExperimentContext) -> dict[str, int]:
    """Return how many tokens training and held-out windows share, here and where the split comes too late."""
    L, corpus = context.config.model.context_length, context.corpus
    of = len(corpus.train) + len(corpus.held_out)
    training, held_out = numbered(corpus.train, 0, of), numbered(corpus.held_out, len(corpus.train), of)
    loader = BatchLoader(training, dataclasses.replace(context.config.batches, batch_size=1024), L, context.seed)
    beginning = numbered(prefix_of(corpus, COUNTED).train)
    before, after = split_after_windowing(beginning, L, stride_of(L, 2))
    repeated, of_windows = word_for_word(corpus.train, corpus.held_out, L)
    documents, of_documents = shared_documents(corpus.train, corpus.held_out)
    return {
        "documents": documents,
        "held_out_documents": of_documents,
        "shared": shared_tokens(epoch_batches(loader), evaluation_batches(held_out, L, 1024, stride=stride_of(L, 2))),
        "shared_late": shared_tokens([before], [after]),
        "held_out_late": int(after.inputs.shape[0]),
        "word_for_word": repeated,
        "held_out_windows": of_windows,
    }


def leak_laws(leaks: Mapping[str, int]) -> list[Law]:
    """Return the laws that there are none here, and that the search for them can tell."""
    return [
        Law.near(f"Of {leaks['held_out_documents']:,} held-out documents, those that are training documents as well",
                 leaks["documents"], 0, 0),
        Law.near("Tokens that the windows of both sides have in common, by their place in the text", leaks["shared"],
                 0, 0),
        Law.above("Tokens in common, as a control, where windows at stride L/2 are cut before the split",
                  leaks["shared_late"], 0),
    ]  # fmt: skip


def shared_tokens(training: Iterable[Batch], held_out: Iterable[Batch]) -> int:
    """Return how many of the held-out windows' tokens are in a training window, too; their texts are `numbered`."""
    return len(np.intersect1d(_positions(training), _positions(held_out)))


def _positions(batches: Iterable[Batch]) -> Integers:
    """Return all positions that windows touch, inputs and targets."""
    positions = [np.zeros(0, dtype=np.int64)]
    for batch in batches:
        counted = batch.targets != IGNORE
        # Inputs at padding are 0, which is a position; a row's real ones stand just before its counted targets.
        real = counted.int().flip(1).cummax(1).values.flip(1).bool()
        positions.append(np.unique(np.concatenate([batch.inputs[real].numpy(), batch.targets[counted].numpy()])))
    return np.unique(np.concatenate(positions))


def split_after_windowing(tokens: TokenFile, context_length: int, stride: int, every: int = 10) -> tuple[Batch, Batch]:
    """Return training and held-out windows by the usual mistake: windows are cut first, then each tenth is held out.

    The tokens are `numbered`; with stride < context_length both sides share tokens.
    """
    windows = Windows(tokens, context_length, BatchConfig(stride=stride), seed=0)
    numbers = np.arange(len(windows))
    batch = read_batch(tokens, windows.spans(numbers, np.zeros_like(numbers)), context_length)
    held_out = numbers % every == every // 2
    return (
        Batch(batch.inputs[~held_out], batch.targets[~held_out]),
        Batch(batch.inputs[held_out], batch.targets[held_out]),
    )


def shared_documents(training: TokenFile, held_out: TokenFile) -> tuple[int, int]:
    """Return how many of the held-out documents are training documents as well, and how many there are.

    At most MOST_READ tokens of each text are read.
    """
    trained_on, hashes = set(_documents(training)), list(_documents(held_out))
    return sum(document in trained_on for document in hashes), len(hashes)


def _documents(tokens: TokenFile) -> Iterator[bytes]:
    """Yield the hash of each document, without the token that opens it."""
    for start, end in itertools.pairwise(tokens.offsets.tolist()):
        if end > MOST_READ:
            break
        yield hashlib.sha256(tokens.take(np.arange(start + 1, end)).tobytes()).digest()


def word_for_word(training: TokenFile, held_out: TokenFile, length: int) -> tuple[int, int]:
    """Return how many held-out stretches of `length` tokens are anywhere in the training text, and how many there are.

    Stretches lie side by side. One that is there is no leak of windows but of the text itself, which repeats. Found by
    rolling hashes, (N,) each.
    """
    if min(len(training), len(held_out)) < length:
        return 0, 0
    stretches = _hashes(held_out, length)[::length]
    return int(np.isin(stretches, np.unique(_hashes(training, length))).sum()), len(stretches)


def _hashes(tokens: TokenFile, length: int) -> NDArray[np.uint64]:
    """Return the hash of each stretch of `length` tokens among the first MOST_READ: (N - length + 1,)."""
    ids = tokens.take(np.arange(min(len(tokens), MOST_READ))).astype(np.uint64) + np.uint64(1)
    count = len(ids) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for place in range(length):
        total = total * HASH_BASE + ids[place : place + count]
    return total
