"""Held-out documents of several runs, put in the order of their keys a range at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.corpus.held_out_order import put_in_order
from lightwell.corpus.shards import Shard, check_shard, write_shard

TYPE = np.dtype("<u2")
LAST = 2**64 - 1


def run(folder: Path, name: str, keys: list[int], first: int) -> Shard:
    """A run with a document for each key: 1 to 3 tokens, each the document's number."""
    lengths = np.array([1 + (first + n) % 3 for n in range(len(keys))], dtype=np.int64)
    ids = np.repeat(np.arange(first, first + len(keys)), lengths).astype(TYPE)
    return write_shard(folder, f"shards/{name}", ids, np.cumsum(lengths) - lengths, np.array(keys, dtype=np.uint64))


def documents(folder: Path, shards: list[Shard]) -> list[list[list[int]]]:
    """The documents of each shard."""
    made = []
    for shard in shards:
        check_shard(folder, shard)
        ids = np.fromfile(folder / f"{shard.name}.tokens", dtype=TYPE)
        offsets = np.fromfile(folder / f"{shard.name}.offsets", dtype="<i8")
        assert (shard.documents, shard.tokens, offsets[0]) == (len(offsets), len(ids), 0)
        made.append([part.tolist() for part in np.split(ids, offsets[1:])])
    return made


@pytest.mark.parametrize(
    ("keys", "shards"),
    [
        ([[0, 4, 5, 9]], [[0, 1], [2, 3]]),  # ranges up to 5 and up to 10: 5 is on the edge, and in the second
        ([[4, 6, 9], [4, 5, 5]], [[0, 3], [4, 5, 1, 2]]),  # equal keys in the order of the runs
        ([[0, 1], [LAST - 1, LAST]], [[0, 1], [2, 3]]),  # the last edge is 2^64, which no key can be
        ([[7, 8, 9, 9]], [[0, 1, 2, 3]]),  # a range without documents makes no shard
    ],
)
def test_a_key_on_the_edge_of_a_range_is_in_the_range_that_begins_there(
    tmp_path: Path, keys: list[list[int]], shards: list[list[int]]
) -> None:
    (tmp_path / "shards").mkdir()
    runs = [run(tmp_path, f"run-{n}", some, sum(map(len, keys[:n]))) for n, some in enumerate(keys)]
    made = put_in_order(tmp_path, runs, TYPE, -(-sum(one.tokens for one in runs) // 2))
    assert [shard.name for shard in made] == [f"shards/validation-{n:05}" for n in range(len(shards))]
    expected = [[[number] * (1 + number % 3) for number in shard] for shard in shards]
    assert documents(tmp_path, made) == expected


@given(
    keys=st.lists(st.lists(st.integers(0, LAST) | st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=4),
    at_once=st.integers(1, 40),
)
def test_all_documents_come_once_and_in_order(keys: list[list[int]], at_once: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        ordered = [sorted(some) for some in keys]
        runs = [run(folder, f"run-{n}", some, sum(map(len, keys[:n]))) for n, some in enumerate(ordered)]
        made = documents(folder, put_in_order(folder, runs, TYPE, at_once))
    all_keys = [key for some in ordered for key in some]
    order = sorted(range(len(all_keys)), key=lambda number: all_keys[number])
    assert [document for shard in made for document in shard] == [[number] * (1 + number % 3) for number in order]
