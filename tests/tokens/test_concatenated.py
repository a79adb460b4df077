"""Several files read like one array."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lightwell.tokens import concatenated
from lightwell.tokens.concatenated import ConcatenatedTokens

sizes = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def stream(folder: Path, sizes: list[int], closing: list[int]) -> tuple[ConcatenatedTokens, NDArray[np.uint16]]:
    """Files of these sizes with different ids in each place, and the same as an array."""
    whole = np.arange(sum(sizes) + len(closing), dtype="<u2") * 3 + 1
    whole[sum(sizes) :] = closing
    files, start = [], 0
    for number, size in enumerate(sizes):
        path = folder / f"{number}.tokens"
        whole[start : start + size].tofile(path)
        files.append((path, size))
        start += size
    return ConcatenatedTokens(files, closing, "<u2"), whole


@given(data=st.data(), sizes=sizes, closing=st.lists(st.integers(0, 9), min_size=1, max_size=2))
def test_slices_and_positions_give_what_numpy_gives(data: st.DataObject, sizes: list[int], closing: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tokens, whole = stream(Path(folder), sizes, closing)
        assert (len(tokens), tokens.shape, tokens.dtype) == (len(whole), whole.shape, whole.dtype)
        part = data.draw(st.slices(len(whole)))
        assert tokens[part].tolist() == whole[part].tolist()
        shape = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
        places = st.integers(-len(whole), len(whole) - 1)
        index = data.draw(arrays.arrays(np.int64, shape, elements=places))
        found = tokens[index]
        assert np.shape(found) == index.shape
        assert found.tolist() == whole[index].tolist()
        one = data.draw(places)
        assert tokens[one] == whole[one]


@pytest.mark.parametrize("index", [np.array([3, 99]), np.array([-99]), 99])
def test_a_place_outside_is_refused(tmp_path: Path, index: NDArray[np.int64]) -> None:
    tokens, _ = stream(tmp_path, [3, 4], [0])
    with pytest.raises(IndexError, match="outside of the 8 tokens"):
        tokens[index]
    with pytest.raises(IndexError, match="not by float64"):
        tokens[np.array([0.5])]


def test_it_never_becomes_one_array_by_accident(tmp_path: Path) -> None:
    tokens, _ = stream(tmp_path, [3, 4], [0])
    with pytest.raises(TypeError, match="larger than memory"):
        np.asarray(tokens)


def test_only_so_many_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concatenated, "MOST_MAPPED", 2)
    tokens, whole = stream(tmp_path, [2] * 9, [0])
    assert tokens[np.arange(len(whole))].tolist() == whole.tolist()
    assert tokens._mapped.cache_info().currsize == 2
