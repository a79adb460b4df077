"""The beginning of a text is a text of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab_house import laboratory
from lightwell.lab.experiments.prefix import prefix_of, tokens_for


@pytest.mark.parametrize("count", [1, 50, 333])
def test_the_prefix_of(tmp_path: Path, count: int) -> None:
    corpus = laboratory(tmp_path).corpus
    part = prefix_of(corpus, count)
    assert np.array_equal(part.train.take(np.arange(count)), corpus.train.take(np.arange(count)))
    assert len(part.train) == count
    assert part.train.offsets[-1] == count - 1
    assert part.held_out is corpus.held_out
    assert part.digest != corpus.digest


def test_nothing_is_left_out_for_0_or_more_than_there_are(tmp_path: Path) -> None:
    corpus = laboratory(tmp_path).corpus
    assert prefix_of(corpus, 0) is corpus
    assert prefix_of(corpus, len(corpus.train)) is corpus


def test_so_many_tokens_make_so_many_passes() -> None:
    assert tokens_for(presented=64_000, context_length=64, epochs=20.0) == 50 * 64 + 1
