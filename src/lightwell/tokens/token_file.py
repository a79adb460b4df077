"""A text as token ids on disk, memory-mapped, so that its size is no matter of memory.

    position   0     1 2 3   4     5 6   7
    tokens    [EOT   d o g   EOT   c a   EOT]
    offsets   [0             4           7  ]

One end-of-text token stands before each document and one after the last: it opens the document that follows it, and a
model that has only it as a context writes the beginning of a document. offsets[d] is where document d is opened, and
the last of the offsets is the position of the last token.

Three files: NAME.tokens (uint16 or uint32), NAME.offsets (int64), both little-endian without a header, and NAME.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from lightwell.errors import TextError
from lightwell.text.unpacking import gathered
from lightwell.tokens.concatenated import ConcatenatedTokens
from lightwell.tokens.tokenizer import Tokenizer

BATCH = 1 << 21
"""Characters of documents that are encoded at once."""

ABOUT = ("vocab_size", "end_of_text", "text_bytes", "digest")
"""What NAME.json says of the two other files."""

TokenArray: TypeAlias = npt.NDArray[np.uint16] | npt.NDArray[np.uint32] | ConcatenatedTokens
OffsetArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenFile:
    """A stream of N token ids with the places where documents begin."""

    tokens: TokenArray
    """(N,) the ids; a read-only memory map where it comes from disk, several as one where it comes from shards."""
    offsets: OffsetArray
    """(documents + 1,) the position of the token that opens each document, then that of the last token."""
    vocab_size: int
    """V: ids are below it."""
    end_of_text: int | None
    """The id between documents; None for ids that came without documents."""
    text_bytes: int
    """Bytes of the documents in UTF-8, 0 where not known. The end-of-text tokens stand for none."""
    digest: str
    """SHA-256 of all of the above; where it comes from shards, by way of theirs."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def documents(self) -> int:
        """Return the number of documents."""
        return len(self.offsets) - 1

    def take(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the ids at some positions, in their shape."""
        # As a plain array: indexing one takes half the time that a memmap takes.
        tokens = self.tokens if isinstance(self.tokens, ConcatenatedTokens) else np.asarray(self.tokens)
        return tokens[index].astype(np.int64)

    @classmethod
    def from_ids(
        cls,
        ids: npt.ArrayLike,
        *,
        vocab_size: int,
        end_of_text: int | None = None,
        offsets: npt.ArrayLike | None = None,
        text_bytes: int = 0,
    ) -> Self:
        """Return a stream in memory, from ids as they are (N,); without `offsets` they count as one document."""
        tokens = np.asarray(ids).astype(token_type(vocab_size))
        places = np.array([0, len(tokens) - 1] if offsets is None else offsets, dtype=np.int64)
        return cls._of(tokens, places, vocab_size, end_of_text, text_bytes)

    @classmethod
    def from_texts(cls, texts: Iterable[str], tokenizer: Tokenizer) -> Self:
        """Return a stream in memory, from documents."""
        every, offsets, text_bytes = [], [0], 0
        for ids, size in _encoded(texts, tokenizer):
            every.append(ids)
            offsets.append(offsets[-1] + len(ids))
            text_bytes += size
        return cls.from_ids(
            np.concatenate([*every, [tokenizer.end_of_text]]),
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.end_of_text,
            offsets=offsets,
            text_bytes=text_bytes,
        )

    @classmethod
    def write(cls, folder: Path, name: str, texts: Iterable[str], tokenizer: Tokenizer) -> Self:
        """Encode documents to the three files of `name` in an existing folder, and open them.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        dtype = token_type(tokenizer.vocab_size)
        offsets, text_bytes = [0], 0
        with (folder / f"{name}.tokens").open("wb") as file:
            for ids, size in _encoded(texts, tokenizer):
                file.write(ids.astype(dtype).tobytes())
                offsets.append(offsets[-1] + len(ids))
                text_bytes += size
            file.write(np.array([tokenizer.end_of_text], dtype=dtype).tobytes())
        with (folder / f"{name}.offsets").open("wb") as file:
            file.write(np.array(offsets, dtype="<i8").tobytes())
        written = cls._of(*_map(folder, name, dtype), tokenizer.vocab_size, tokenizer.end_of_text, text_bytes)
        about = {key: getattr(written, key) for key in ABOUT}
        (folder / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return written

    @classmethod
    def open(cls, folder: Path, name: str) -> Self:
        """Map the files that `write` made, after checking every byte of them against the digest.

        Raises:
            TextError: a file is missing or is not what was written.
        """
        try:
            about: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            vocab_size, end_of_text, text_bytes, digest = (about[key] for key in ABOUT)
            tokens, places = _map(folder, name, token_type(vocab_size))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TextError(f"The tokens {folder / name} are damaged ({error}); make them again.") from None
        opened = cls._of(tokens, places, vocab_size, end_of_text, text_bytes)
        if opened.digest != digest:
            raise TextError(f"The tokens {folder / name} are damaged (not what was written); make them again.")
        return opened

    @classmethod
    def _of(
        cls, tokens: npt.NDArray[Any], offsets: OffsetArray, vocab_size: int, end_of_text: int | None, text_bytes: int
    ) -> Self:
        hasher = hashlib.sha256(f"{tokens.dtype.str} {vocab_size} {end_of_text} {text_bytes}".encode())
        hasher.update(np.ascontiguousarray(tokens).data)
        hasher.update(np.ascontiguousarray(offsets).data)
        return cls(tokens, offsets, vocab_size, end_of_text, text_bytes, hasher.hexdigest())


def token_type(vocab_size: int) -> npt.DTypeLike:
    """Return the smallest of the two types that holds ids below `vocab_size`."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _encoded(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Yield each document's ids with the token that opens it, and its bytes; many documents are encoded at once."""
    for batch in gathered(texts, BATCH):
        for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
            yield np.concatenate([[tokenizer.end_of_text], ids]), len(text.encode())


def _map(folder: Path, name: str, dtype: npt.DTypeLike) -> tuple[Any, OffsetArray]:
    tokens = np.memmap(folder / f"{name}.tokens", dtype=dtype, mode="r")
    return tokens, np.fromfile(folder / f"{name}.offsets", dtype="<i8")
