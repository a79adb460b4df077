"""Tokens are cut into windows: window i starts at token i x stride and is one context length long.

    tokens      t0 t1 t2 t3 t4 t5 t6 t7 t8 t9        N = 10
    window 0    t0 t1 t2 t3 -> t1 t2 t3 t4           context_length L = 4: four inputs, four targets one further on
    window 1          t2 t3 t4 t5 -> t3 t4 t5 t6     stride s = 2: half of each window is seen again in the next
    window 2                t4 t5 t6 t7 -> t5 t6 t7 t8

There are n = ceil((N - L) / s) windows, as in GPTDatasetV1 of "Build a Large Language Model (From Scratch)", ch. 2.
s < L shows a token in about L / s windows, s = L in one, s > L skips s - L tokens between windows. The last targets,
fewer than s, may fill no window and are left out (t9 above).

Document boundaries:
cross   a window runs on from one document into the next, past the end-of-text token between them
mask    the same windows, but a token attends only to its own document (`Batch.documents`)
cut     each document, from the end-of-text token that opens it to the one that ends it, has windows of its own, up to
        its end; shorter ones are padded, so nothing is left out while s <= L
"""

from __future__ import annotations

import numpy as np

from lightwell.batches.batch import Spans
from lightwell.batches.config import BatchConfig
from lightwell.batches.order import Integers, draw
from lightwell.errors import TextError
from lightwell.tokens.token_file import TokenFile


class Windows:
    """The windows of one epoch over a text, by number. Holds no tokens of its own.

    Raises:
        TextError: the text is shorter than one window.
    """

    def __init__(self, tokens: TokenFile, context_length: int, config: BatchConfig, seed: int) -> None:
        self.context_length = context_length
        self.stride = config.stride or context_length
        self.seed = seed
        self.random = config.sampler == "random"
        self.cut = config.document_boundaries == "cut"
        self.targets = len(tokens.tokens) - 1  # every token but the first can be predicted
        needed = 1 if self.cut else context_length
        if self.targets < needed:
            shorter = f"choose a context_length of at most {self.targets} or " if self.targets > 0 else ""
            raise TextError(
                f"The text has {self.targets + 1} tokens, but one window of context_length {context_length} "
                f"needs {needed + 1}; {shorter}give more text."
            )
        self._offsets = np.asarray(tokens.offsets, dtype=np.int64)
        if self.cut:
            self._targets = np.diff(self._offsets)  # of each document
            # Beside the first window, as many as it takes to reach the end. A stride beyond L may step past the end,
            # hence the larger of the two.
            beyond_first = np.maximum(0, self._targets - max(context_length, self.stride))
            self._counts = 1 + _ceil_divide(beyond_first, self.stride)
            self._firsts = np.concatenate(([0], np.cumsum(self._counts)))  # number of each document's first window

    def __len__(self) -> int:
        """Return how many windows an epoch has."""
        if self.cut:
            return int(self._firsts[-1])
        return -((self.context_length - 1 - self.targets) // self.stride)  # ceil((N - L) / s)

    def spans(self, numbers: Integers, epochs: Integers) -> Spans:
        """Return where windows `numbers` (B,) of the given epochs (B,) stand; only random offsets differ by epoch.

        Which of n documents a window is in is looked up in O(log n).
        """
        L = self.context_length
        if not self.cut:
            starts = draw(numbers, self.targets - L + 1, self.seed, epochs) if self.random else numbers * self.stride
            lengths = np.full_like(starts, L)
        elif self.random:
            starts = draw(numbers, self.targets, self.seed, epochs)
            ends = self._offsets[np.searchsorted(self._offsets, starts, side="right")]
            lengths = np.minimum(L, ends - starts)
        else:
            document = np.searchsorted(self._firsts, numbers, side="right") - 1
            starts = self._offsets[document] + (numbers - self._firsts[document]) * self.stride
            lengths = np.minimum(L, self._offsets[document + 1] - starts)
        return Spans(starts, lengths, n_context=np.zeros_like(starts))

    @property
    def targets_per_epoch(self) -> float:
        """Return how many targets an epoch presents, repeats counted (random offsets in cut documents: on average)."""
        L = self.context_length
        if not self.cut:
            return float(len(self) * L)
        if self.random:  # a window that starts r targets before its document's end has min(r, L) of them
            full = np.maximum(0, self._targets - L)
            short = np.minimum(L, self._targets)
            return len(self) * float((full * L + short * (short + 1) // 2).sum()) / self.targets
        return float(((self._counts - 1) * L + self._last_lengths()).sum())

    @property
    def targets_skipped(self) -> int:
        """Return how many targets are in no window: between windows where s > L, and a tail that fills none."""
        if self.random:
            return 0
        step = min(self.stride, self.context_length)  # targets that each further window adds
        if self.cut:
            return self.targets - int(((self._counts - 1) * step + self._last_lengths()).sum())
        return self.targets - ((len(self) - 1) * step + self.context_length)

    def _last_lengths(self) -> Integers:
        """Return how many targets each document's last window has."""
        return np.minimum(self.context_length, self._targets - (self._counts - 1) * self.stride)


def _ceil_divide(numbers: Integers, divisor: int) -> Integers:
    return -(-numbers // divisor)
