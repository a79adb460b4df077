"""What is in a folder of prepared text: manifest.json, which is written last, so that a folder with one is finished.

FOLDER/manifest.json    settings, documents, tokens, shards with their SHA-256, and one digest of all
       tokenizer.json   (and tokenizer_config.json, where the end of a text has an unusual name)
       plan.json        which command with which sources made it, to recognise it when it is given again
       shards/          the tokens
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lightwell.corpus.shards import REMEDY, Shard, all_offsets, check_shard, write_json
from lightwell.corpus.units.encoding import HELD_OUT, TRAIN
from lightwell.errors import SettingError, TextError
from lightwell.text import own_folders
from lightwell.text.config import PREPARED, TextConfig
from lightwell.text.paths import expanded
from lightwell.tokens.concatenated import ConcatenatedTokens
from lightwell.tokens.token_file import TokenFile, token_type
from lightwell.tokens.tokenizer import Tokenizer

FORMAT = 1
MANIFEST, PLAN = own_folders.MANIFEST, own_folders.PLAN
TOKENIZER = "tokenizer.json"
HASHED_AT_ONCE = 4
"""Shards that are held against their SHA-256 at a time; hashing runs beside Python."""


@dataclass(frozen=True)
class Side:
    """The training or the held-out side."""

    documents: int
    tokens: int
    """The number of tokens, the end-of-text token that closes the last document among them, which is in no shard."""
    text_bytes: int
    shards: list[Shard]


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json; the names of the fields are those on disk."""

    format: int
    settings: dict[str, Any]
    fingerprint: str
    """The tokenizer's fingerprint."""
    vocab_size: int
    end_of_text: int
    dtype: str
    """The type of the token ids."""
    train: Side
    validation: Side
    report: list[str]
    digest: str = ""
    """SHA-256 of the tokenizer's fingerprint and of all tokens' hashes."""

    def side_digest(self, name: str) -> str:
        """Return the SHA-256 of the tokens of a side, by way of the hashes of its shards."""
        side: Side = getattr(self, name)
        values: list[Any] = [
            self.dtype,
            self.vocab_size,
            self.end_of_text,
            side.documents,
            side.tokens,
            side.text_bytes,
        ]
        for shard in side.shards:
            values += [shard.documents, shard.tokens, shard.sha256["tokens"], shard.sha256["offsets"]]
        return hashlib.sha256(" ".join(map(str, values)).encode()).hexdigest()

    def expected_digest(self) -> str:
        """Return what `digest` must be."""
        sides = f"{self.side_digest(TRAIN)} {self.side_digest(HELD_OUT)}"
        return hashlib.sha256(f"{self.fingerprint} {sides}".encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared text, opened."""

    folder: Path
    manifest: Manifest
    train: TokenFile
    held_out: TokenFile
    tokenizer: Tokenizer


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Put the digest in, and write it: from then on the folder is finished.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    manifest = dataclasses.replace(manifest, digest=manifest.expected_digest())
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder, without a look at its shards.

    Raises:
        TextError: it is missing or damaged, or of another version of Lightwell.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror}); {REMEDY}.") from None
    except msgspec.DecodeError as error:
        raise TextError(f"{path} is damaged ({error}); {REMEDY}.") from None
    if manifest.format != FORMAT:
        raise TextError(f"{path} is of another version of Lightwell; prepare the text anew with --force.")
    if manifest.digest != manifest.expected_digest():
        raise TextError(f"{path} is damaged (its parts do not belong together); {REMEDY}.")
    return manifest


def open_prepared(folder: Path, tokenizer: Tokenizer | None = None, *, checked: bool = False) -> Prepared:
    """Open a folder of prepared text, after checking every byte of its shards.

    tokenizer: one that is loaded already and must be the one that made the shards. checked: another process does so on
    this machine.

    Raises:
        TextError: a shard or the manifest is missing, damaged or cut off, or another tokenizer is given.
    """
    manifest = read_manifest(folder)
    if tokenizer is None:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        if tokenizer.fingerprint != manifest.fingerprint:
            raise TextError(f"{folder / TOKENIZER} is damaged (not what the manifest names); {REMEDY}.")
    if tokenizer.fingerprint != manifest.fingerprint:
        raise TextError(f"The text in {folder} was prepared with another tokenizer; prepare it with this one.")
    every = [] if checked else [*manifest.train.shards, *manifest.validation.shards]
    with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:
        list(threads.map(lambda shard: check_shard(folder, shard), every))
    train, held_out = (_stream(folder, manifest, side) for side in (TRAIN, HELD_OUT))
    return Prepared(folder, manifest, train, held_out, tokenizer)


def prepared_folder(paths: Sequence[str]) -> Path | None:
    """Return the folder of prepared text that the paths name, if they do.

    Raises:
        TextError: prepared text is named among other texts, or is not finished.
    """
    folders = [expanded(path) for path in paths]
    folder = next((folder for folder in folders if own_folders.own_folder(folder) == own_folders.PREPARED), None)
    if folder is None:
        return None
    if len(folders) > 1:
        raise TextError(f"{folder} holds prepared text, which cannot be joined with other text; name it alone.")
    if not (folder / MANIFEST).is_file():
        raise TextError(f"{folder} is not finished; give its `lightwell prepare` command again to go on.")
    return folder


def refuse_other_settings(folder: Path, config: TextConfig, vocab_size: int) -> None:
    """Make sure that no setting is given which was another one when the text was prepared.

    Raises:
        SettingError: there is one.
        TextError: the manifest is damaged.
    """
    manifest = read_manifest(folder)
    given = {**config.to_dict(), "vocab_size": vocab_size}
    was = {**manifest.settings, "vocab_size": manifest.vocab_size}
    defaults = {**TextConfig().to_dict(), "vocab_size": 0}
    for name in PREPARED:
        if given[name] not in (defaults[name], was[name]):
            raise SettingError(
                f"{name} is {given[name]!r}, but {folder} was prepared with {was[name]!r}; "
                f"give --{name.replace('_', '-')} {was[name]} (a preset may have said another), or prepare it anew."
            )


def _stream(folder: Path, manifest: Manifest, name: str) -> TokenFile:
    side: Side = getattr(manifest, name)
    dtype = np.dtype(token_type(manifest.vocab_size))
    files = [(folder / f"{shard.name}.tokens", shard.tokens) for shard in side.shards]
    tokens = ConcatenatedTokens(files, [manifest.end_of_text], dtype)
    return TokenFile(
        tokens,
        all_offsets(folder, side.shards),
        manifest.vocab_size,
        manifest.end_of_text,
        side.text_bytes,
        manifest.side_digest(name),
    )
