"""Cuts a long text where byte-pair encoding with GPT-2's pattern cannot notice.

The tokenizers library takes longer for one long text than for its parts, and only parts can go to several cores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

PIECE = 10_000
"""Characters after which a text is cut at the next place where it can be."""
SAFE_CUT = re.compile(r"(?<=[\w!-~])(?=[ \n\t\r])")
"""Before a space that follows a visible character: each alternative of GPT-2's pattern takes spaces only in front, and
looks ahead only from spaces, so none of its matches reaches across such a place."""


def cut_in_pieces(text: str) -> Iterator[str]:
    """Yield pieces of at least `PIECE` characters (but the last), which joined are the text; at least one."""
    start = 0
    while cut := SAFE_CUT.search(text, start + PIECE):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def can_be_cut(spec: dict[str, Any]) -> bool:
    """Return whether a tokenizer.json takes text apart by GPT-2's pattern alone, so that SAFE_CUT holds."""
    pattern = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    pre_tokenizer = spec["pre_tokenizer"] or {}
    only_special = all(entry["special"] for entry in spec["added_tokens"])  # others are looked for in the text
    return only_special and spec["normalizer"] is None and pattern.items() <= pre_tokenizer.items()
