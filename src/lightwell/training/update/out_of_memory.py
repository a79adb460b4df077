"""What an allocation that failed looks like."""

from __future__ import annotations

import torch

WORDS = ("can't allocate memory", "out of memory", "not enough memory")
"""What torch's allocators say on CPUs and on GPUs of Apple, where an error has no type of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
