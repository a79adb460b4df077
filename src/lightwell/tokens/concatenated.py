"""Many shards as one stream of token ids: what a window is read from where the tokens are in more than one file.

    shard 0    E d o g          position 0 1 2 3
    shard 1    E c a            position 4 5 6
    closing    E                position 7

It is read like an array of numpy: a slice, or an array of positions of any shape, gives an array of ids. Only what is
asked for is read; the shards are mapped when they are first touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np
import numpy.typing as npt

MOST_MAPPED = 256
"""Shards that are mapped at a time: each takes a file descriptor, and a process often has no more than 1,024."""

Ids = npt.NDArray[Any]


class ConcatenatedTokens:
    """(N,) token ids of several files, one after another, and the ids of `closing` behind them.

    Args:
        files: each file of ids and how many it holds; they are not opened yet.
        closing: ids at the end that are in no file.
        dtype: the type of the ids in the files.
    """

    ndim = 1

    def __init__(self, files: Sequence[tuple[Path, int]], closing: Sequence[int], dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._files = [path for path, size in files if size]
        self._closing = np.array(closing, dtype=self.dtype)
        sizes = [size for _, size in files if size] + [len(closing)]
        self._edges = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))  # where each file begins, and the end
        self._mapped = lru_cache(maxsize=MOST_MAPPED)(self._map)

    def __len__(self) -> int:
        return int(self._edges[-1])

    @property
    def shape(self) -> tuple[int]:
        """Return (N,)."""
        return (len(self),)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> np.integer[Any]: ...
    @overload
    def __getitem__(self, index: slice | npt.NDArray[np.integer[Any]]) -> Ids: ...
    def __getitem__(self, index: Any) -> Any:
        """Return the ids at an integer, a slice, or an array of integers of any shape; negative ones count from the
        end.

        Raises:
            IndexError: a position is outside of the stream.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._run(start, stop) if step == 1 else self._gather(np.arange(start, stop, step))
        positions = np.asarray(index)
        if positions.size and positions.dtype.kind not in "iu":
            raise IndexError(f"tokens are read by integers and slices, not by {positions.dtype}")
        return self._gather(positions)[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError("a corpus in shards may be larger than memory; read slices of its tokens")

    def _run(self, start: int, stop: int) -> Ids:
        """Return ids from `start` up to `stop`; a view where they are in one file."""
        if stop <= start:
            return np.empty(0, dtype=self.dtype)
        first, last = np.searchsorted(self._edges, [start, stop - 1], side="right") - 1
        runs = [
            self._file(number)[max(start - self._edges[number], 0) : stop - self._edges[number]]
            for number in range(first, last + 1)
        ]
        return runs[0] if len(runs) == 1 else np.concatenate(runs)

    def _gather(self, positions: npt.NDArray[np.integer[Any]]) -> Ids:
        """Return ids at `positions`, in their shape. Sorted by file, so that each file is read once."""
        flat = positions.reshape(-1).astype(np.int64)
        flat[flat < 0] += len(self)
        if flat.size and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"a position is outside of the {len(self):,} tokens")
        file_of = (np.searchsorted(self._edges, flat, side="right") - 1).astype(np.int32)
        order = np.argsort(file_of, kind="stable")
        counts = np.bincount(file_of, minlength=len(self._edges) - 1)
        ends = np.cumsum(counts)
        out = np.empty(flat.size, dtype=self.dtype)
        for number in np.flatnonzero(counts):
            here = order[ends[number] - counts[number] : ends[number]]
            out[here] = self._file(number)[flat[here] - self._edges[number]]
        return out.reshape(positions.shape)

    def _file(self, number: Any) -> Ids:
        """Return the ids of one file; those of `closing` follow the last."""
        return self._closing if number == len(self._files) else self._mapped(int(number))

    def _map(self, number: int) -> Ids:
        # As a plain array: indexing one takes half the time that a memmap takes.
        return np.memmap(self._files[number], dtype=self.dtype, mode="r").view(np.ndarray)
