"""Shards: the tokens of some documents of one side as files, each with its SHA-256.

    NAME.tokens    uint16 or uint32, little-endian: the ids of each document, opened by an end-of-text token
    NAME.offsets   int64: where each document is opened, counted from the start of the shard

The shards of a side, one after another, and an end-of-text token behind the last, are the stream that token_file.py
describes. A shard of a unit also has NAME.keys (uint64): the first 8 bytes of the SHA-256 of each document's text, by
which held-out documents are put in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lightwell.atomic import write_file
from lightwell.errors import TextError
from lightwell.tokens.table_encoding import Ids

REMEDY = "copy the folder again, or prepare the text anew with --force"


@dataclass(frozen=True)
class Shard:
    """What a manifest or a unit's record says of one shard."""

    name: str
    """The name of its files within the folder, without their endings."""
    documents: int
    tokens: int
    sha256: dict[str, str]
    """The hash of each file, by its ending."""


def write_shard(
    folder: Path, name: str, tokens: npt.NDArray[Any], offsets: Ids, keys: npt.NDArray[np.uint64] | None = None
) -> Shard:
    """Write the files of a shard; each is there whole or not at all, and is on the disk when this returns.

    tokens (N,) already in the type of the vocabulary; offsets (documents,); keys (documents,), or None.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"tokens": tokens, "offsets": offsets.astype("<i8")}
    if keys is not None:
        arrays["keys"] = keys.astype("<u8")
    for ending, array in arrays.items():
        write_file(folder / f"{name}.{ending}", array.data)
    hashes = {ending: hashlib.sha256(array.data).hexdigest() for ending, array in arrays.items()}
    return Shard(name, len(offsets), len(tokens), hashes)


def write_json(path: Path, content: Any) -> None:
    """Write a file as JSON that people can read; it is there whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    write_file(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def has_size(folder: Path, shard: Shard, dtype: np.dtype[Any]) -> bool:
    """Return whether the files are there in their full size."""
    sizes = {"tokens": shard.tokens * dtype.itemsize, "offsets": 8 * shard.documents, "keys": 8 * shard.documents}
    try:
        return all((folder / f"{shard.name}.{end}").stat().st_size == sizes[end] for end in shard.sha256)
    except OSError:
        return False


def check_shard(folder: Path, shard: Shard) -> None:
    """Hold every byte of a shard against its SHA-256.

    Raises:
        TextError: a file is missing, cut off or changed.
    """
    for ending, expected in shard.sha256.items():
        path = folder / f"{shard.name}.{ending}"
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise TextError(f"The shard {path} cannot be read ({error.strerror}); {REMEDY}.") from None
        if actual != expected:
            raise TextError(f"The shard {path} is damaged (its SHA-256 is not that of the manifest); {REMEDY}.")


def all_offsets(folder: Path, shards: Sequence[Shard]) -> Ids:
    """Return (documents + 1,) where each document opens in the stream of all shards, then where its last token is."""
    starts, base = [], 0
    for shard in shards:
        starts.append(np.fromfile(folder / f"{shard.name}.offsets", dtype="<i8") + base)
        base += shard.tokens
    return np.concatenate([*starts, [base]]).astype(np.int64)
