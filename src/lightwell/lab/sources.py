"""Which code decides a result: a hash of its files is in the key of each, so that none outlives a change of it.

What only plans, judges, words and draws is not in it: numbers stay what they are when those change.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

FOLDERS = ("model", "batches", "generation", "training")
INSTRUMENTS = (
    "batch_gradients", "causal_checks", "causal_models", "exposure", "gradient_noise", "influence", "pace", "part",
    "row_sums", "saturation", "skipping", "tensor_rows", "trial", "zeros",
)  # fmt: skip
"""The lab's modules that train or measure."""


@functools.cache
def sources_of(note: str) -> str:
    """The hash of the model, its batches, its training, its writing and the lab's instruments, and a note's own module.

    A training that no note changes or looks at is the same for all of them: then `note` is empty.
    """
    root = Path(__file__).parents[1]
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    files += [root / "lab" / f"{name}.py" for name in (*INSTRUMENTS, *([note.replace("-", "_")] if note else []))]
    whole = hashlib.sha256()
    for path in files:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
