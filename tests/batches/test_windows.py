from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.batches.batch import IGNORE, Batch, Spans
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.batches.windows import Windows
from lightwell.errors import TextError
from lightwell.tokens.token_file import TokenFile

LENGTHS, STRIDES = st.integers(1, 12), st.integers(1, 20)
SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=8)


def numbered(n: int, offsets: list[int] | None = None) -> TokenFile:
    """A text whose token t has the id t, so that a window shows where it stands."""
    return TokenFile.from_ids(list(range(n)), vocab_size=max(n, 2), offsets=offsets)


def documents_of(sizes: list[int]) -> TokenFile:
    """Documents of so many tokens each, between end-of-text tokens."""
    offsets = np.concatenate(([0], np.cumsum(np.array(sizes) + 1))).tolist()
    return numbered(offsets[-1] + 1, offsets)


def every_window(tokens: TokenFile, context_length: int, **settings: Any) -> Batch:
    """The windows of the first epoch as one batch."""
    settings = {"shuffle": False, "batch_size": 1} | settings
    n = BatchLoader(tokens, BatchConfig(**settings), context_length, seed=1).windows
    return BatchLoader(tokens, BatchConfig(**(settings | {"batch_size": n})), context_length, seed=1).batch(0)


def counted_targets(batch: Batch) -> list[int]:
    return [int(target) for target in batch.targets.flatten() if target != IGNORE]


def all_spans(tokens: TokenFile, context_length: int, **settings: Any) -> Spans:
    windows = Windows(tokens, context_length, BatchConfig(**settings), seed=1)
    return windows.spans(np.arange(len(windows)), np.zeros(len(windows), dtype=np.int64))


@given(st.integers(2, 200), LENGTHS, STRIDES)
def test_law_06_windows_are_counted_and_targets_shifted_by_one(n: int, length: int, stride: int) -> None:
    length = min(length, n - 1)
    batch = every_window(numbered(n), length, stride=stride)
    assert len(batch.inputs) == math.ceil((n - length) / stride)
    starts = np.arange(len(batch.inputs)) * stride
    assert (batch.inputs.numpy() == starts[:, None] + np.arange(length)).all()
    assert (batch.targets == batch.inputs + 1).all()


@given(st.integers(2, 200), LENGTHS, STRIDES)
def test_law_06_every_token_is_covered_iff_the_stride_is_at_most_the_context(n: int, length: int, stride: int) -> None:
    length = min(length, n - 1)
    batch = every_window(numbered(n), length, stride=stride)
    seen = set(counted_targets(batch))
    between = set(range(1, max(seen) + 1))  # up to the last window's end; beyond it fewer than s targets are left
    assert (seen == between) == (stride <= length or len(batch.inputs) == 1)
    assert n - 1 - max(seen) < stride
    windows = Windows(numbered(n), length, BatchConfig(stride=stride), seed=1)
    assert windows.targets_skipped == n - 1 - len(seen)
    assert windows.targets_per_epoch == batch.counted


def test_law_06_stride_of_one_more_never_predicts_across_the_cut() -> None:
    batch = every_window(numbered(21), 4, stride=5)
    assert set(range(1, 20)) - set(counted_targets(batch)) == {5, 10, 15}


@pytest.mark.parametrize("stride", [1, 3, 8, 9, 20])
def test_law_06_same_windows_as_gptdatasetv1(stride: int) -> None:
    reason = "install it with `pip install --no-deps llms-from-scratch==1.0.19` and tiktoken"
    chapter = pytest.importorskip("llms_from_scratch.ch02", reason=reason)
    ids: list[int] = np.random.default_rng(0).integers(0, 500, 203).tolist()

    class Ready:
        def encode(self, text: str, allowed_special: set[str]) -> list[int]:
            return ids

    theirs = chapter.GPTDatasetV1("", Ready(), max_length=8, stride=stride)
    ours = every_window(TokenFile.from_ids(ids, vocab_size=500), 8, stride=stride)
    assert ours.inputs.tolist() == [window.tolist() for window, _ in theirs]
    assert ours.targets.tolist() == [targets.tolist() for _, targets in theirs]


@given(SIZES, LENGTHS, STRIDES)
def test_cut_windows_stay_in_their_document_and_reach_its_end(sizes: list[int], length: int, stride: int) -> None:
    tokens = documents_of(sizes)
    batch = every_window(tokens, length, stride=stride, document_boundaries="cut")
    ends = np.asarray(tokens.offsets)
    for inputs, targets in zip(batch.inputs.numpy(), batch.targets.numpy(), strict=True):
        own = targets != IGNORE
        assert own.any()
        assert (targets[own] == inputs[own] + 1).all()
        document = np.searchsorted(ends, inputs[0], side="right")  # the end-of-text token that closes it
        assert targets[own].max() <= ends[document]
        assert own.all() or targets[own].max() == ends[document]  # only a document's end is padded
    seen = set(counted_targets(batch))
    if stride <= length:
        assert seen == set(range(1, len(tokens.tokens)))
    windows = Windows(tokens, length, BatchConfig(stride=stride, document_boundaries="cut"), seed=1)
    assert windows.targets_skipped == len(tokens.tokens) - 1 - len(seen)
    assert windows.targets_per_epoch == batch.counted


@given(SIZES, LENGTHS, STRIDES, st.sampled_from(["cross", "cut"]), st.integers(0, 5))
def test_random_offsets_are_real_windows(
    sizes: list[int], length: int, stride: int, boundaries: str, epoch: int
) -> None:
    tokens = documents_of(sizes)
    length = min(length, len(tokens.tokens) - 1)
    settings = {"stride": stride, "document_boundaries": boundaries}
    windows = Windows(tokens, length, BatchConfig.from_dict(settings | {"sampler": "random"}), seed=2)
    regular = Windows(tokens, length, BatchConfig.from_dict(settings), seed=2)
    assert len(windows) == len(regular)
    spans = windows.spans(np.arange(len(windows)), np.full(len(windows), epoch))
    ends = spans.starts + spans.lengths  # where the last target stands
    assert spans.starts.min() >= 0
    assert spans.lengths.min() >= 1
    assert ends.max() <= len(tokens.tokens) - 1
    if boundaries == "cut":
        document = np.searchsorted(tokens.offsets, spans.starts, side="right")
        assert (ends <= tokens.offsets[document]).all()


def test_random_offsets_reach_every_start_and_differ_by_epoch() -> None:
    windows = Windows(numbered(12), 4, BatchConfig(sampler="random"), seed=5)
    epochs = np.arange(400)
    starts = windows.spans(np.zeros(400, dtype=np.int64), epochs).starts
    assert set(starts.tolist()) == set(range(8))  # 0 ... N-L-1: the last target is the last token


def test_random_cut_windows_present_as_many_targets_as_promised() -> None:
    tokens = documents_of([3, 0, 17, 9, 30, 2])
    windows = Windows(tokens, 6, BatchConfig(sampler="random", document_boundaries="cut"), seed=5)
    epochs = np.repeat(np.arange(300), len(windows))
    spans = windows.spans(np.tile(np.arange(len(windows)), 300), epochs)
    assert spans.lengths.sum() / 300 == pytest.approx(windows.targets_per_epoch, rel=0.03)


def test_windows_of_a_document_are_found_among_many() -> None:
    tokens = documents_of([5] * 10_000)
    windows = Windows(tokens, 4, BatchConfig(document_boundaries="cut"), seed=1)
    assert len(windows) == 20_000  # 6 targets each: 4 and 2
    spans = windows.spans(np.array([0, 1, 2, 19_999]), np.zeros(4, dtype=np.int64))
    assert spans.starts.tolist() == [0, 4, 6, 9_999 * 6 + 4]
    assert spans.lengths.tolist() == [4, 2, 4, 2]


@pytest.mark.parametrize("settings", [{}, {"sampler": "random"}, {"document_boundaries": "mask"}])
def test_text_shorter_than_one_window_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TextError, match=r"has 8 tokens, but one window of context_length 8 needs 9; .* at most 7"):
        Windows(numbered(8), 8, BatchConfig(**settings), seed=1)
    assert len(Windows(numbered(9), 8, BatchConfig(**settings), seed=1)) == 1


def test_cut_pads_short_texts_and_refuses_only_empty_ones() -> None:
    batch = every_window(numbered(3), 5, document_boundaries="cut")
    assert batch.targets.tolist() == [[1, 2, IGNORE, IGNORE, IGNORE]]
    with pytest.raises(TextError, match="give more text"):
        Windows(numbered(1), 5, BatchConfig(document_boundaries="cut"), seed=1)
