"""One unit becomes shards: its documents are read, sent to their side, encoded and written, in bounded memory.

    block of texts --SHA-256--> side --encode--> ids --an end-of-text before each--> shard

Which side a document is on follows from the SHA-256 of its text alone, as in split.py; but where split.py sees all
documents and meets the share of bytes that is wanted, here each is held out by itself, where the first 8 bytes of its
hash, as a fraction of 2^64, are below that share. The last thing written of a unit is its record; a unit without one
is not done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lightwell.corpus.shards import Shard, has_size, write_json, write_shard
from lightwell.corpus.units.cutting import Unit
from lightwell.corpus.units.reading import Findings, read_unit
from lightwell.text import own_folders
from lightwell.tokens.pieces import PIECE
from lightwell.tokens.table_encoding import Ids
from lightwell.tokens.token_file import token_type
from lightwell.tokens.tokenizer import Tokenizer

TRAIN, HELD_OUT = "train", "validation"
"""The two sides, as files name them."""
SIDES = (TRAIN, HELD_OUT)
ENCODED_AT_ONCE = 1 << 21
"""Characters of one side that are gathered before they are encoded."""
CHECKED = PIECE
"""Characters of each shard that are held against the reference encoder, which takes 10 to 100 times as long."""
CHECKED_AT_FIRST = 1 << 20
"""Characters that are in the first shards of the first unit, where a faster encoder that is wrong shows itself."""
RECORDS = "units"
SHARDS = own_folders.SHARDS


@dataclass(frozen=True)
class UnitRecord:
    """What became of a unit; the names of its fields are those on disk."""

    fingerprint: str
    """The fingerprint of the plan that the unit belongs to."""
    encoder: str
    """The package that encoded it."""
    found: Findings
    shards: dict[str, list[Shard]]
    """The shards of each side."""
    text_bytes: dict[str, int]
    """The bytes of each side's documents in UTF-8."""


@dataclass(frozen=True)
class Work:
    """What all units of a corpus have in common."""

    folder: Path
    text_field: str
    validation_fraction: float
    unit_bytes: int
    fingerprint: str

    def record_path(self, unit: Unit) -> Path:
        """Return where a unit's record is."""
        return self.folder / RECORDS / f"{unit.name}.json"

    def side_of(self, key: int) -> str:
        """Return the side of a document by the first 8 bytes of its text's SHA-256."""
        return HELD_OUT if key < int(self.validation_fraction * 2**64) else TRAIN


def document_key(text: str) -> tuple[int, int]:
    """Return the first 8 bytes of a text's SHA-256 as a number, and the bytes of the text in UTF-8."""
    data = text.encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big"), len(data)


def encode_unit(
    unit: Unit, work: Work, tokenizer: Tokenizer, on_progress: Callable[[int], None] = lambda size: None
) -> None:
    """Encode a unit into shards, and write its record.

    on_progress: is called after each block with its bytes of text.

    Raises:
        TextError: a file that must be readable is not.
        EncodersDifferError: the faster encoder differs from the reference; the tokenizer does not use it any more.
        OSError: the disk is full or the folder cannot be written.
    """
    findings = Findings()
    sides = {side: _SideWriter(unit, side, work, tokenizer) for side in SIDES}
    for texts in read_unit(unit, work.text_field, work.unit_bytes, findings):
        before = findings.bytes
        for text in texts:
            key, size = document_key(text)
            sides[work.side_of(key)].add(text, key, size)
            findings.bytes += size
        on_progress(findings.bytes - before)
    shards = {side: writer.finish() for side, writer in sides.items()}
    text_bytes = {side: writer.text_bytes for side, writer in sides.items()}
    write_json(work.record_path(unit), UnitRecord(work.fingerprint, tokenizer.encoder, findings, shards, text_bytes))


def finished(unit: Unit, work: Work, vocab_size: int) -> UnitRecord | None:
    """Return the record of a unit that is done, with all its shards there; else None."""
    try:
        record = msgspec.json.decode(work.record_path(unit).read_bytes(), type=UnitRecord)
    except (OSError, msgspec.DecodeError):
        return None
    dtype = np.dtype(token_type(vocab_size))
    complete = all(has_size(work.folder, shard, dtype) for shards in record.shards.values() for shard in shards)
    return record if complete and record.fingerprint == work.fingerprint else None


class _SideWriter:
    """The documents of one side of a unit: gathered, encoded many at once, and written as a shard when it is full."""

    def __init__(self, unit: Unit, side: str, work: Work, tokenizer: Tokenizer) -> None:
        self._unit, self._side, self._work, self._tokenizer = unit, side, work, tokenizer
        self._dtype = np.dtype(token_type(tokenizer.vocab_size))
        self._shards: list[Shard] = []
        self._texts: list[str] = []
        self._characters = 0
        self.text_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._ids: list[npt.NDArray[Any]] = []
        self._lengths: list[Ids] = []
        self._keys: list[int] = []
        self._bytes = 0
        self._checked = CHECKED if self._unit.number or self._shards else CHECKED_AT_FIRST

    def add(self, text: str, key: int, size: int) -> None:
        """Take in a document of `size` bytes."""
        self._texts.append(text)
        self._keys.append(key)
        self._bytes += size
        self.text_bytes += size
        self._characters += len(text)
        if self._characters >= ENCODED_AT_ONCE:
            self._encode()
        if self._bytes >= self._work.unit_bytes:
            self._write()

    def finish(self) -> list[Shard]:
        """Write what is left, and return all shards of this side."""
        if self._keys:
            self._write()
        return self._shards

    def _encode(self) -> None:
        flat, edges = self._tokenizer.encode_flat(self._texts, checked=self._checked)
        self._checked = 0
        self._ids.append(opened(flat.astype(self._dtype), edges, self._tokenizer.end_of_text))
        self._lengths.append(np.diff(edges) + 1)
        self._texts, self._characters = [], 0

    def _write(self) -> None:
        if self._texts:
            self._encode()
        ids, lengths = np.concatenate(self._ids), np.concatenate(self._lengths)
        keys = np.array(self._keys, dtype=np.uint64)
        if self._side == HELD_OUT:  # each shard in the order of the hash, so that they can be merged in pieces
            order = np.argsort(keys, kind="stable")
            ids, lengths, keys = in_order(ids, lengths, order), lengths[order], keys[order]
        offsets = np.cumsum(lengths) - lengths
        name = f"{SHARDS}/{self._side}-{self._unit.name}-{len(self._shards):03}"
        with_keys = keys if self._side == HELD_OUT else None
        self._shards.append(write_shard(self._work.folder, name, ids, offsets, with_keys))
        self._begin()


def opened(flat: npt.NDArray[Any], edges: Ids, end_of_text: int) -> npt.NDArray[Any]:
    """Return the ids of documents in a row, (T,), with the end-of-text token before each: (T + documents,)."""
    out = np.empty(len(flat) + len(edges) - 1, dtype=flat.dtype)
    opens = np.zeros(len(out), dtype=bool)
    opens[edges[:-1] + np.arange(len(edges) - 1)] = True
    out[opens] = end_of_text
    out[~opens] = flat
    return out


def in_order(ids: npt.NDArray[Any], lengths: Ids, order: Ids) -> npt.NDArray[Any]:
    """Return documents of these lengths, in a row, put into another order."""
    starts = np.cumsum(lengths) - lengths
    moved = lengths[order]
    # Position i of the result is in some document, and as far from that document's start as from its new start.
    shift = np.repeat(starts[order] - (np.cumsum(moved) - moved), moved)
    out: npt.NDArray[Any] = ids[np.arange(len(ids)) + shift]
    return out
