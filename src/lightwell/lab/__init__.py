"""What a loss_module was told becomes something measured: seven notes, an experiment and a verdict each.

In: the name of a note, a text, a budget. Out: a verdict card, as JSON, pictures, Markdown and a page.
Read first: experiment.py, then buffer.py, the smallest of the seven.

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
