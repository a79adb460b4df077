"""A faster encoder behind the reference: fastokens, where it is installed, as long as it gives the very same ids.

The tokenizers library is the format and the reference. fastokens reads the same tokenizer.json and encodes at ten and
more times its speed. A piece of every batch is encoded by both; the first difference, or failure, ends its use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightwell.errors import TextError
from lightwell.tokens.table_encoding import Ids

try:
    import fastokens
except ImportError:  # an extra
    fastokens = None

WORTH_IT = 10_000
"""Characters in a batch from which a faster encoder is asked; a prompt is not worth it."""
DIFFER = (
    "The encoder fastokens gives other ids than the tokenizers library, and is not used any more; "
    "give the command again without it: pip uninstall fastokens."
)


class EncodersDifferError(TextError):
    """The faster encoder gave other ids than the reference, so that what it encoded before is in doubt."""


class FastEncoder:
    """The encoder of fastokens with one vocabulary."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def __call__(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, (T,) each; special tokens that stand in a text are text."""
        ids, edges = self.flat(texts)
        return np.split(ids.astype(np.int64), edges[1:-1])

    def flat(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], Ids]:
        """Return the ids of all texts in a row, (T,), and the edges between them, (texts + 1,)."""
        ids, offsets = self._native.encode_batch_flat(list(texts), split_special_tokens=True)
        return np.frombuffer(ids, dtype="<u4"), np.frombuffer(offsets, dtype="<u8").astype(np.int64)


def fast_encoder(tokenizer_json: str) -> FastEncoder | None:
    """Return the faster encoder of this tokenizer; None where it is not installed or does not know such a tokenizer."""
    if fastokens is None:
        return None
    try:
        return FastEncoder(fastokens.Tokenizer.from_json_str(tokenizer_json))
    except Exception:  # whatever it says of a kind that it does not know: there is the reference
        return None
