"""How often each token of a text is a target: counted, not computed.

A text whose token ids are its positions goes through the very loader that trains, and the targets of its batches then
say which positions they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightwell.batches.batch import IGNORE, Batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.prefix import prefix_of
from lightwell.lab.notes.stride.arms import prefix_tokens, stride_of
from lightwell.lab.verdicts.verdict import Law
from lightwell.tokens.token_file import TokenFile
from lightwell.training.update.streams import stream_seed

COUNTED = 20_000
"""Tokens of the text on which exposures are counted, at most."""
Integers = NDArray[np.int64]


def numbered(tokens: TokenFile, first: int = 0, of: int = 0) -> TokenFile:
    """Return the same documents with positions for ids: first, first + 1, ..., out of `of` in all."""
    ids = np.arange(first, first + len(tokens))
    return TokenFile.from_ids(ids, vocab_size=max(of, first + len(tokens)), offsets=tokens.offsets)


def epoch_batches(loader: BatchLoader, epochs: int = 1) -> Iterator[Batch]:
    """Yield the batches of whole epochs; the last one is cut where it runs into the next."""
    left, step = loader.windows * epochs, 0
    while left > 0:
        batch = loader.batch(step)
        yield batch.rows(slice(0, left))
        left, step = left - len(batch.targets), step + 1


def exposures(loader: BatchLoader, epochs: int = 1) -> Integers:
    """Return how often each token is a target, (N,). The loader's tokens are `numbered` from 0."""
    counts = np.zeros(len(loader.tokens), dtype=np.int64)
    for batch in epoch_batches(loader, epochs):
        targets = batch.targets[batch.targets != IGNORE].numpy()
        counts += np.bincount(targets, minlength=len(counts))
    return counts


def interior(counts: Integers, windows: int, context_length: int, stride: int) -> Integers:
    """Return the counts of tokens away from both edges: all windows that could hold them are there.

    Token p is a target of window i where i s < p <= i s + L. From p = L on none lies before the text, and up to
    p = n s none after its last window.
    """
    return counts[context_length : windows * stride + 1]


def count_exposures(context: ExperimentContext) -> list[dict[str, Any]]:
    """Return what several strides show in one epoch, counted off the loader on the first tokens."""
    L = context.config.model.context_length
    tokens = numbered(prefix_of(context.corpus, min(COUNTED, prefix_tokens(context))).train)
    strides = sorted({*(stride_of(L, ratio) for ratio in (1, 2, 4, 8)), L + 1, 2 * L}, reverse=True)
    rows = []
    for stride, random in [*((stride, False) for stride in strides), (stride_of(L, 4), True)]:
        settings = BatchConfig(batch_size=256, stride=stride, sampler="random" if random else "windows")
        loader = BatchLoader(tokens, settings, L, stream_seed(context.seed, "order"))
        rows.append(exposure_row(loader, L, stride, random))
    return rows


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
    """Return the laws: the number of windows, L / s times away from the edges, and what strides beyond L leave out."""
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
