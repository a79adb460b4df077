"""How the tokens are cut into windows and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lightwell.settings import Meta, Settings


@dataclass(frozen=True)
class BatchConfig(Settings):
    """Windows, their order, and how many of them one update averages over."""

    batch_size: Annotated[int, Meta(ge=1)] = 32
    """Sequences per optimizer step."""
    micro_batch_size: Annotated[int, Meta(ge=0)] = 0
    """Sequences that go through the model at once; gradients add up to the batch. 0 means the whole batch."""
    stride: Annotated[int, Meta(ge=0)] = 0
    """Tokens from the start of one window to the start of the next. 0 means the context length: no overlap, no gap."""
    sampler: Literal["windows", "random"] = "windows"
    """windows takes every window once per epoch; random takes as many windows from random offsets."""
    shuffle: bool = True
    """Whether the windows of an epoch come in a seeded random order, or as they stand in the text."""
    document_boundaries: Literal["cross", "cut", "mask"] = "cross"
    """Windows may cross into the next document, are cut there, or cross but attend only within a document."""
