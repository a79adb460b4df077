"""The beginning of a text as a text of its own: with fewer tokens, the same number of steps makes more passes."""

from __future__ import annotations

import dataclasses

import numpy as np

from lightwell.corpus.corpus import Corpus
from lightwell.tokens.token_file import TokenFile


def prefix_of(corpus: Corpus, count: int) -> Corpus:
    """Return the corpus with its first `count` tokens to train on, all of them for 0; held out stays the same."""
    tokens = corpus.train
    if not count or count >= len(tokens):
        return corpus
    document_starts = tokens.offsets[tokens.offsets < count - 1]
    train = TokenFile.from_ids(
        tokens.take(np.arange(count)), vocab_size=tokens.vocab_size, end_of_text=tokens.end_of_text,
        offsets=np.append(document_starts, count - 1),
    )  # fmt: skip
    return dataclasses.replace(corpus, train=train, digest=f"{corpus.digest}, first {count} tokens")


def tokens_for(presented: int, context_length: int, epochs: float) -> int:
    """Return the length of a text that `presented` tokens of training pass over so many times, in windows side by side.

    n windows of L tokens need n L + 1 tokens, the last of them being a target only.
    """
    return max(1, round(presented / context_length / epochs)) * context_length + 1
