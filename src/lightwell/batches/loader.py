"""Batches by number: the batch of any step comes from (seed, step) alone, so a run resumes anywhere at once."""

from __future__ import annotations

import numpy as np

from lightwell.batches.batch import Batch, read_batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.order import Integers, permute
from lightwell.batches.report import WindowReport
from lightwell.batches.windows import Windows
from lightwell.tokens.token_file import TokenFile


class BatchLoader:
    """The endless sequence of training batches over one text.

    Raises:
        TextError: the text is shorter than one window.
    """

    def __init__(self, tokens: TokenFile, config: BatchConfig, context_length: int, seed: int) -> None:
        self.tokens = tokens
        self.config = config
        self.seed = seed
        self._windows = Windows(tokens, context_length, config, seed)

    @property
    def windows(self) -> int:
        """Return how many windows an epoch has."""
        return len(self._windows)

    @property
    def steps_per_epoch(self) -> float:
        """Return how many batches show each window once; not rounded, as a batch may span two epochs."""
        return self.windows / self.config.batch_size

    def batch(self, step: int) -> Batch:
        """Return the batch of the 0-based `step`: B = batch_size windows of T = context_length tokens, on the CPU."""
        epochs, numbers = self.windows_of(step)
        return read_batch(
            self.tokens,
            self._windows.spans(numbers, epochs),
            self._windows.context_length,
            with_documents=self.config.document_boundaries == "mask",
        )

    def windows_of(self, step: int) -> tuple[Integers, Integers]:
        """Return which windows make the batch of the 0-based `step`: the epoch of each, and its number in it, (B,)."""
        sequence = step * self.config.batch_size + np.arange(self.config.batch_size, dtype=np.int64)
        epochs, positions = np.divmod(sequence, self.windows)
        # Random offsets are in random order already.
        shuffled = self.config.shuffle and self.config.sampler == "windows"
        return epochs, permute(positions, self.windows, self.seed, epochs) if shuffled else positions

    def report(self, steps: int) -> WindowReport:
        """Return what `steps` steps will show the model of this text."""
        epochs = steps / self.steps_per_epoch
        return WindowReport(
            windows=self.windows,
            context_length=self._windows.context_length,
            stride=self._windows.stride,
            random=self._windows.random,
            batch_size=self.config.batch_size,
            steps=steps,
            epochs=epochs,
            effective_epochs=epochs * self._windows.targets_per_epoch / self._windows.targets,
            tokens=self._windows.targets + 1,
            tokens_skipped=self._windows.targets_skipped,
        )
