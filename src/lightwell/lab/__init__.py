"""What a learner was told becomes something measured: notes, each with an experiment and a verdict.

In: the name of a note, a text, a budget. Out: a verdict card, as JSON, pictures, Markdown and a page.
Read first: notes/buffer/experiment.py, the smallest experiment, then experiments/experiment.py, which says what one is.

    session       some notes on one text, from the plan to the cards on disk
    catalogue     the notes that there are, found in notes/
    notes         a folder for each note
    experiments   what every experiment is made of: context, trainings, store, learning rates
    verdicts      the rule that makes a verdict of differences, and its statistics
    cards         the card in JSON, words and pictures

From Python:

    lw.lab.check_causal(model)      the tests of causal attention on any model, as a table
    lw.lab.tensor_table(module)     every tensor of any module: its kind, its bytes, whether it is saved and moved
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightwell.lab.notes.buffer.tensor_rows import tensor_table
    from lightwell.lab.notes.causal.checks import check_causal

__all__ = ["check_causal", "tensor_table"]

_HOME = {"check_causal": "notes.causal.checks", "tensor_table": "notes.buffer.tensor_rows"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lightwell.lab' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lightwell.lab.{_HOME[name]}"), name)
    globals()[name] = value
    return value
