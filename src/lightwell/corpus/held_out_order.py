"""The held-out documents of all units, put in the order of their hash, in bounded memory.

An evaluation along the way scores only the first held-out tokens, and those of the first unit would be those of the
corpus' beginning; in the order of the hash they are a fair sample of it. Hashes are spread evenly, so a range of them
holds about as many documents as any other of the same width, and is put in order by itself:

    unit 0    3 8 21 40 66 71 90
    unit 1    1 9 33 52 58 80 93      (each in order already)
              `--range 0--' `-1-...   one shard for each range
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightwell.corpus.shards import Shard, write_shard
from lightwell.corpus.units.encoding import HELD_OUT, SHARDS, in_order
from lightwell.tokens.table_encoding import Ids

TOKENS_AT_ONCE = 1 << 21
"""Tokens of a shard of held-out documents, about: putting as many in order takes some 50 MB."""


def put_in_order(
    folder: Path, runs: Sequence[Shard], dtype: np.dtype[Any], at_once: int = TOKENS_AT_ONCE
) -> list[Shard]:
    """Write the documents of `runs`, which have keys and are in order each, as new shards in order altogether.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    tokens = sum(run.tokens for run in runs)
    highest = max((int(_keys(folder, run)[-1]) for run in runs), default=0)
    ranges = max(1, -(-tokens // at_once))
    edges = sorted({(highest + 1) * number // ranges for number in range(ranges + 1)})
    shards: list[Shard] = []
    for low, high in itertools.pairwise(edges):
        of_runs = [_between(folder, run, low, high, dtype) for run in runs]
        ids, lengths, keys = (np.concatenate(arrays) for arrays in zip(*of_runs, strict=True))
        if not len(keys):
            continue
        order = np.argsort(keys, kind="stable")
        lengths_in_order = lengths[order]
        offsets = np.cumsum(lengths_in_order) - lengths_in_order
        name = f"{SHARDS}/{HELD_OUT}-{len(shards):05}"
        shards.append(write_shard(folder, name, in_order(ids, lengths, order), offsets))
    return shards


def _between(
    folder: Path, run: Shard, low: int, high: int, dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], Ids, npt.NDArray[np.uint64]]:
    """Return ids, lengths and keys of the documents whose keys are from `low` up to but not including `high`."""
    keys = _keys(folder, run)
    first = np.searchsorted(keys, np.uint64(low), side="left")
    end = np.searchsorted(keys, np.uint64(high - 1), side="right")  # high itself may be 2^64
    starts = np.append(np.fromfile(folder / f"{run.name}.offsets", dtype="<i8"), run.tokens)
    count, skipped = int(starts[end] - starts[first]), int(starts[first]) * dtype.itemsize
    ids = np.fromfile(folder / f"{run.name}.tokens", dtype=dtype, count=count, offset=skipped)
    return ids, np.diff(starts[first : end + 1]), keys[first:end]


def _keys(folder: Path, run: Shard) -> npt.NDArray[np.uint64]:
    return np.fromfile(folder / f"{run.name}.keys", dtype="<u8")
