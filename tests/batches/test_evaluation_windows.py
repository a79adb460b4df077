from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightwell.batches.batch import IGNORE, PADDING
from lightwell.batches.evaluation import evaluation_batches
from lightwell.errors import SettingError, TextError
from lightwell.tokens.token_file import TokenFile


def numbered(n: int, offsets: list[int] | None = None) -> TokenFile:
    return TokenFile.from_ids(list(range(n)), vocab_size=max(n, 2), offsets=offsets)


@given(st.integers(2, 150), st.integers(1, 20), st.data())
def test_every_target_is_scored_once_with_the_most_context(n: int, length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    batch_size = data.draw(st.integers(1, 10))
    max_tokens = data.draw(st.integers(0, n + 5))
    scored: list[int] = []
    for batch in evaluation_batches(numbered(n), length, batch_size, stride=stride, max_tokens=max_tokens):
        assert batch.inputs.size(0) <= batch_size
        assert batch.inputs.size(1) == length
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            for place, target in enumerate(targets):
                if target == IGNORE:
                    continue
                scored.append(target)
                assert inputs[place] == target - 1
                # Of the windows at 0, s, 2s, ... that hold target t, the first, at t-L or later, sees furthest back.
                first = max(0, -((length - target) // stride)) * stride
                assert inputs[0] == first
                assert place + 1 == target - first
    assert scored == list(range(1, min(n - 1, max_tokens or n) + 1))


def test_stride_zero_is_the_context_length() -> None:
    default, explicit = (list(evaluation_batches(numbered(50), 8, 4, stride=stride)) for stride in (0, 8))
    for one, other in zip(default, explicit, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
    overlapping = list(evaluation_batches(numbered(50), 8, 4, stride=2))
    assert sum(len(batch.inputs) for batch in overlapping) > sum(len(batch.inputs) for batch in default)


def test_documents_are_told_apart_from_each_other_and_from_padding() -> None:
    tokens = numbered(12, [0, 3, 11])
    (batch,) = evaluation_batches(tokens, 8, 4, boundaries="mask")
    assert batch.documents is not None
    assert batch.documents.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2], [2, 2, 2, *[PADDING] * 5]]
    (without,) = evaluation_batches(tokens, 8, 4)
    assert without.documents is None
    assert torch.equal(without.targets, batch.targets)


def test_too_wide_a_stride_is_refused() -> None:
    with pytest.raises(SettingError, match="evaluation stride is 9, but must be at most the context_length 8"):
        evaluation_batches(numbered(50), 8, 4, stride=9)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_predict_is_refused(n: int) -> None:
    tokens = TokenFile.from_ids(np.arange(n), vocab_size=2, offsets=[0, 0])
    with pytest.raises(TextError, match=f"has {n} tokens"):
        evaluation_batches(tokens, 8, 4)


@pytest.mark.parametrize("stride", [0, 3])
@pytest.mark.parametrize("max_tokens", [0, 17])
def test_cut_scores_each_document_alone_and_each_target_once(stride: int, max_tokens: int) -> None:
    offsets = np.array([0, 4, 6, 20, 29])
    tokens = TokenFile.from_ids(np.arange(30), vocab_size=30, end_of_text=0, offsets=offsets)
    scored: list[int] = []
    for batch in evaluation_batches(tokens, 8, 3, stride=stride, max_tokens=max_tokens, boundaries="cut"):
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            counted = [target for target in targets if target != IGNORE]
            scored += counted
            document = np.searchsorted(offsets, counted[0] - 1, side="right")
            assert all(np.searchsorted(offsets, target - 1, side="right") == document for target in counted)
            assert inputs[0] >= offsets[document - 1]  # a window begins in its document, never before
            if counted[0] - 1 == offsets[document - 1]:
                assert inputs[0] == offsets[document - 1]  # at position 0, as in training
    assert scored == list(range(1, (max_tokens or 29) + 1))
