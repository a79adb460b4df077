"""What a learner was told becomes something measured: seven notes, an experiment and a verdict each.

In: the name of a note, a text, a budget. Out: a verdict card, as JSON, pictures, Markdown and a page.
Read first: experiment.py, then buffer.py, the smallest of the seven.

    lw.lab.check_causal(model)      the tests of causal attention on any model, as a table
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightwell.lab.causal_checks import check_causal

__all__ = ["check_causal"]


def __getattr__(name: str) -> Any:
    if name != "check_causal":
        raise AttributeError(f"module 'lightwell.lab' has no attribute {name!r}")
    from lightwell.lab.causal_checks import check_causal

    globals()[name] = check_causal
    return check_causal
