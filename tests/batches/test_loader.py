"""The loader as training uses it; for each knob of BatchConfig, that it works and that its neutral value is neutral."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightwell.batches.batch import IGNORE, Batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.tokens.token_file import TokenFile

LENGTH = 6
SIZES = [9, 0, 25, 4, 60, 13]
OFFSETS = np.concatenate(([0], np.cumsum(np.array(SIZES) + 1))).tolist()


def loader(seed: int = 3, context_length: int = LENGTH, **settings: Any) -> BatchLoader:
    ids = list(range(OFFSETS[-1] + 1))
    tokens = TokenFile.from_ids(ids, vocab_size=len(ids), offsets=OFFSETS)
    return BatchLoader(tokens, BatchConfig(**({"batch_size": 4} | settings)), context_length, seed)


def rows(batches: list[Batch]) -> list[tuple[int, ...]]:
    return [tuple(row) for batch in batches for row in batch.inputs.tolist()]


def equal(one: Batch, other: Batch) -> bool:
    documents = (one.documents, other.documents)
    same_documents = documents == (None, None) or (
        isinstance(documents[0], torch.Tensor)
        and isinstance(documents[1], torch.Tensor)
        and torch.equal(documents[0], documents[1])
    )
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets) and same_documents


@given(
    st.integers(0, 10**12),
    st.sampled_from(["windows", "random"]),
    st.sampled_from(["cross", "cut", "mask"]),
    st.booleans(),
)
def test_any_step_is_computed_alone(step: int, sampler: str, boundaries: str, shuffle: bool) -> None:
    settings: dict[str, Any] = {"sampler": sampler, "document_boundaries": boundaries, "shuffle": shuffle}
    used = loader(**settings)
    used.batch(0)
    used.batch(step + 1)
    assert equal(used.batch(step), loader(**settings).batch(step))


@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from(["cross", "cut"]))
def test_every_epoch_shows_each_window_once(batch_size: int, stride: int, boundaries: str) -> None:
    ours = loader(batch_size=batch_size, stride=stride, document_boundaries=boundaries)
    n = ours.windows
    shown = rows([ours.batch(step) for step in range(3 * n // batch_size + 1)])
    in_order = rows([loader(batch_size=n, stride=stride, document_boundaries=boundaries, shuffle=False).batch(0)])
    for epoch in range(3):
        assert sorted(shown[epoch * n : (epoch + 1) * n]) == sorted(in_order)
    assert ours.steps_per_epoch == n / batch_size


def test_shapes_and_types() -> None:
    batch = loader(document_boundaries="mask").batch(0)
    assert batch.inputs.shape == batch.targets.shape == (4, LENGTH)
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.int64, torch.int64)
    assert batch.documents is not None
    assert (batch.documents.shape, batch.documents.dtype) == ((4, LENGTH), torch.int32)
    assert batch.counted == 4 * LENGTH
    moved = batch.to("meta")
    assert moved.documents is not None
    assert moved.inputs.is_meta
    assert moved.targets.is_meta
    assert moved.documents.is_meta


def test_counted_leaves_padding_out() -> None:
    batch = loader(document_boundaries="cut", batch_size=30).batch(0)
    assert 0 < batch.counted < batch.targets.numel()
    assert batch.counted == int((batch.targets != IGNORE).sum())


# Each knob ------------------------------------------------------------------------------------------------------------


def test_knob_batch_size_groups_the_same_sequence_of_windows() -> None:
    ours, theirs = loader(batch_size=6), loader(batch_size=1)
    assert ours.batch(0).inputs.shape == (6, LENGTH)
    assert rows([ours.batch(step) for step in range(3)]) == rows([theirs.batch(step) for step in range(18)])


@pytest.mark.parametrize("boundaries", ["cross", "mask", "cut"])
def test_knob_micro_batch_size_splits_rows_and_zero_keeps_them_together(boundaries: str) -> None:
    batch = loader(batch_size=7, document_boundaries=boundaries).batch(0)
    (whole,) = batch.split(0)
    assert equal(whole, batch)
    parts = batch.split(3)
    assert [len(part.inputs) for part in parts] == [3, 3, 1]
    assert rows(parts) == rows([batch])
    assert sum(part.counted for part in parts) == batch.counted
    documents = [part.documents for part in parts if part.documents is not None]
    assert (batch.documents is None and not documents) or torch.equal(torch.cat(documents), batch.documents)  # type: ignore[arg-type]


def test_knob_micro_batch_size_does_not_change_the_batch() -> None:
    assert equal(loader(micro_batch_size=2).batch(5), loader(micro_batch_size=0).batch(5))


def test_knob_stride_moves_windows_and_zero_is_the_context_length() -> None:
    assert loader(stride=2).windows > loader(stride=LENGTH).windows > loader(stride=9).windows
    assert equal(loader(stride=0).batch(1), loader(stride=LENGTH).batch(1))


def test_knob_sampler_random_takes_other_offsets() -> None:
    random, windows = loader(sampler="random", batch_size=60), loader(sampler="windows", batch_size=60)
    assert all(start % LENGTH == 0 for start, *_ in rows([windows.batch(0)]))
    assert any(start % LENGTH for start, *_ in rows([random.batch(0)]))
    assert random.windows == windows.windows


def test_knob_shuffle_mixes_and_off_leaves_the_order_of_the_text() -> None:
    n = loader().windows
    straight, mixed = rows([loader(shuffle=False, batch_size=n).batch(0)]), rows([loader(batch_size=n).batch(0)])
    assert straight == sorted(straight)
    assert mixed != straight
    assert sorted(mixed) == straight
    assert mixed != rows([loader(batch_size=n).batch(1)])  # each epoch has an order of its own
    assert mixed != rows([loader(batch_size=n, seed=4).batch(0)])
    assert rows([loader(batch_size=n, seed=4, shuffle=False).batch(0)]) == straight


def test_knob_shuffle_leaves_random_offsets_alone() -> None:
    assert equal(loader(sampler="random").batch(2), loader(sampler="random", shuffle=False).batch(2))


def test_knob_document_boundaries_mask_tells_documents_apart() -> None:
    cross, mask = loader().batch(0), loader(document_boundaries="mask").batch(0)
    assert cross.documents is None
    assert torch.equal(cross.inputs, mask.inputs)
    assert torch.equal(cross.targets, mask.targets)
    assert mask.documents is not None
    for inputs, ids in zip(mask.inputs.tolist(), mask.documents.tolist(), strict=True):
        for token, document in zip(inputs, ids, strict=True):
            # Here token t has id t. The end-of-text token that opens a document belongs to it.
            assert OFFSETS[document - 1] <= token < OFFSETS[document]


def test_knob_document_boundaries_cut_changes_the_windows() -> None:
    cut = loader(document_boundaries="cut", shuffle=False, batch_size=3).batch(0)
    assert cut.documents is None
    assert cut.targets.tolist() == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 10, IGNORE, IGNORE],  # token 10 ends the first document and opens the second, which is empty
        [11, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE],
    ]


def test_knob_document_boundaries_are_neutral_on_a_single_document() -> None:
    tokens = TokenFile.from_ids(list(range(2 * LENGTH + 1)), vocab_size=50)
    batches = {
        name: BatchLoader(tokens, BatchConfig(batch_size=4, document_boundaries=name), LENGTH, seed=1).batch(1)
        for name in ("cross", "cut", "mask")
    }
    assert equal(batches["cross"], batches["cut"])
    assert torch.equal(batches["cross"].inputs, batches["mask"].inputs)
    assert batches["mask"].documents is not None
    assert (batches["mask"].documents == batches["mask"].documents[0, 0]).all()


# The report -----------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 12),
    st.integers(1, 20),
    st.sampled_from(["cross", "cut", "mask"]),
    st.integers(1, 3),
)
def test_report_counts_what_the_batches_present(length: int, stride: int, boundaries: str, epochs: int) -> None:
    ours = loader(context_length=length, stride=stride, document_boundaries=boundaries, batch_size=1)
    steps = epochs * ours.windows
    report = ours.report(steps)
    presented = [target for step in range(steps) for target in ours.batch(step).targets.flatten().tolist()]
    presented = [target for target in presented if target != IGNORE]
    assert report.windows == ours.windows
    assert report.epochs == pytest.approx(epochs)
    assert report.effective_epochs == pytest.approx(len(presented) / OFFSETS[-1])
    assert report.tokens == OFFSETS[-1] + 1
    assert report.tokens_skipped == OFFSETS[-1] - len(set(presented))


def test_report_in_words() -> None:
    overlapping = loader(context_length=8, stride=2).report(50).sentences()
    assert overlapping[0] == "55 windows of 8 tokens, one every 2 tokens, from 118 tokens."
    assert overlapping[1] == "50 steps of 4 windows are 3.64 epochs; each token is seen 13.68 times on average."
    assert overlapping[2] == "Never a target: 1 of the tokens (0.85 %), as the last ones fill no window."
    skipping = loader(context_length=8, stride=10).report(50)
    assert skipping.sentences()[2] == (
        f"Never a target: {skipping.tokens_skipped} of the tokens ({100 * skipping.tokens_skipped / 118:.2g} %), "
        "as the stride leaves out 2 between windows."
    )
    random = loader(sampler="random").report(1).sentences()
    assert "starting anywhere" in random[0]
    assert len(random) == 2
