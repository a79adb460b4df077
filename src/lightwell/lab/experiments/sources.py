"""Which code decides a result: a hash of its files is in the key of each, so that none outlives a change of it.

What only plans, judges, words and draws is not in it: numbers stay what they are when those change.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from pathlib import Path

FOLDERS = ("model", "batches", "generation", "training")
INSTRUMENTS = ("pace", "prefix", "skipping", "trial")
"""The modules of lab/experiments/ that train or measure, whichever note asks them to."""
WORDS_AND_PICTURES = ("__init__", "note", "pictures")
"""The modules of a note's folder that measure nothing; all others do."""


@functools.cache
def sources_of(note: str) -> str:
    """Return the hash of the model, its batches, training and writing, the instruments, and what a note measures with.

    A training that no note changes or probes is the same for all of them: then `note` is empty.
    """
    root = Path(__file__).parents[2]
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    files += [root / "lab" / "experiments" / f"{name}.py" for name in INSTRUMENTS]
    if note:
        folder = importlib.import_module(f"lightwell.lab.notes.{note.replace('-', '_')}").__path__[0]
        own = Path(folder).glob("*.py")
        files += sorted(path for path in own if path.stem not in WORDS_AND_PICTURES)
    total = hashlib.sha256()
    for path in files:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
