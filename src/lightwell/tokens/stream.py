"""Text as it is generated: token ids go in one by one, whole characters come out as soon as they are whole."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from lightwell.tokens.tokenizer import Tokenizer


class TextStream:
    """Decodes token by token. A token may end in the middle of a character; that part waits for the next token.

    The pieces that come out, joined, are what `Tokenizer.decode` gives for all the ids at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # For decoders that look at the neighbours (a space before a word, but not before the first): the last ids
        # that gave text, as context, and after them the ids that have given none yet.
        self._context: list[int] = []
        self._waiting: list[int] = []

    def push(self, ids: Iterable[int]) -> str:
        """Return the text that these ids complete; "" while a character is incomplete."""
        if self._tokenizer.joins_bytes:
            return self._utf8.decode(b"".join(self._tokenizer.bytes_of(token) for token in ids))
        self._waiting += ids
        new = self._new_text()
        if not new or new.endswith("\ufffd"):  # perhaps the rest of the character comes
            return ""
        self._context, self._waiting = self._waiting, []
        return new

    def flush(self) -> str:
        """Return what is left when no more ids come: an incomplete character becomes U+FFFD."""
        if self._tokenizer.joins_bytes:
            return self._utf8.decode(b"", final=True)
        new = self._new_text()
        self._context, self._waiting = [], []
        return new

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode([*self._context, *self._waiting])[len(before) :]
