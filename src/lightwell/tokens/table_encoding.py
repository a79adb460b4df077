"""Encodes by table for tokenizers without merges: a token for each known character, a token for each byte of the rest.

The tokenizers library gives the same ids (a property test holds them equal) but needs about a second for a megabyte,
because it runs byte-pair encoding to learn that there is nothing to merge; a table needs milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]


class DirectEncoder:
    """Character to id by table; characters that are not in the table become their UTF-8 bytes.

    Args:
        byte_ids: (256,) the id of each byte.
        characters: character to id; empty for a byte tokenizer.
    """

    def __init__(self, byte_ids: Ids, characters: Mapping[str, int]) -> None:
        self._byte_ids = byte_ids
        last = max((ord(character) for character in characters), default=-1)
        # One entry beyond the last known character stands for all characters after it. -1: not known.
        self._by_code_point = np.full(last + 2, -1, dtype=np.int64)
        for character, index in characters.items():
            self._by_code_point[ord(character)] = index

    def __call__(self, text: str) -> Ids:
        """Return the ids of `text`, (T,)."""
        if len(self._by_code_point) == 1:
            as_bytes: Ids = self._byte_ids[np.frombuffer(text.encode(), dtype=np.uint8)]
            return as_bytes
        code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        ids: Ids = self._by_code_point[np.minimum(code_points, len(self._by_code_point) - 1)]
        unknown = ids < 0
        if not unknown.any():
            return ids
        rest = code_points[unknown].tobytes().decode("utf-32-le").encode()
        widths = np.ones(len(ids), dtype=np.int64)  # tokens per character: a known one 1, an unknown one its bytes
        widths[unknown] = 1 + np.searchsorted([0x80, 0x800, 0x10000], code_points[unknown], side="right")
        is_byte = np.repeat(unknown, widths)
        out = np.empty(len(is_byte), dtype=np.int64)
        out[~is_byte] = ids[~unknown]
        out[is_byte] = self._byte_ids[np.frombuffer(rest, dtype=np.uint8)]
        return out
