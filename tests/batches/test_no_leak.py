"""No training window shares a token with a validation window, whatever the stride: the split comes before windowing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lightwell.batches.batch import Batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.evaluation import evaluation_batches
from lightwell.batches.loader import BatchLoader
from lightwell.text.documents import Document
from lightwell.text.split import split_documents
from lightwell.tokens.token_file import TokenFile

END = 0


def token_file(documents: Iterable[Document]) -> TokenFile:
    """Each character is a token of its own, its code point."""
    ids, offsets = [END], [0]
    for document in documents:
        ids += [*map(ord, document.text), END]
        offsets.append(len(ids) - 1)
    return TokenFile.from_ids(ids, vocab_size=0xFFFF, offsets=offsets)


def characters(batches: Iterable[Batch]) -> set[int]:
    return {token for batch in batches for part in (batch.inputs, batch.targets) for token in part.flatten().tolist()}


@pytest.mark.parametrize("sampler", ["windows", "random"])
@pytest.mark.parametrize("boundaries", ["cross", "cut", "mask"])
@pytest.mark.parametrize("stride", [1, 8, 11])
@pytest.mark.parametrize("sizes", [[40] * 20, [900]], ids=["many documents", "one document"])
def test_no_window_shares_a_token_with_validation(sizes: list[int], stride: int, boundaries: str, sampler: str) -> None:
    # Every character occurs once in the whole corpus, so a shared one would be a leak.
    fresh = map(chr, range(0x4E00, 0x9FFF))
    documents = [Document(f"{i}.txt", "".join(next(fresh) for _ in range(size))) for i, size in enumerate(sizes)]
    split = split_documents(documents, 0.1)
    config = BatchConfig.from_dict(
        {"batch_size": 16, "stride": stride, "document_boundaries": boundaries, "sampler": sampler}
    )
    loader = BatchLoader(token_file(split.train), config, 8, seed=1)
    seen = characters(loader.batch(step) for step in range(int(loader.steps_per_epoch) + 1))
    held_out = characters(evaluation_batches(token_file(split.held_out), 8, 16))
    shared = {chr(token) for token in seen & held_out if token >= 0x4E00}
    assert not shared
    assert len(held_out) > 50
