"""The beginning of a text as a text of its own: with fewer tokens, the same number of steps makes more passes."""

from __future__ import annotations

import dataclasses

import numpy as np

from lightwell.corpus.corpus import Corpus
from lightwell.tokens.token_file import TokenFile


def first_tokens(corpus: Corpus, count: int) -> Corpus:
    """Return the same corpus with only the first `count` tokens to train on, all of them for 0; held out is what was."""
    whole = corpus.train
    if not count or count >= len(whole):
        return corpus
    kept = whole.take(np.arange(count))
    opened = whole.offsets[whole.offsets < count - 1]
    train = TokenFile.from_ids(
        kept, vocab_size=whole.vocab_size, end_of_text=whole.end_of_text, offsets=np.append(opened, count - 1)
    )
    return dataclasses.replace(corpus, train=train, digest=f"{corpus.digest}, first {count} tokens")


def tokens_for(presented: int, context_length: int, epochs: float) -> int:
    """Return how long a text is that `presented` tokens of training pass over so many times, in whole windows side by
    side.

    n windows of L tokens need n L + 1 tokens, the last of them being a target only.
    """
    return max(1, round(presented / context_length / epochs)) * context_length + 1
