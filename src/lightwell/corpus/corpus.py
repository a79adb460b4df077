"""The way from a TextConfig to tokens on disk: read, split, make the tokenizer, encode, and keep the result.

The result is kept in a cache folder under a key made of everything that decides it (the texts, the split, the
tokenizer, the format), so that the same text is encoded once. A cache entry is written beside and renamed, so that it
is there whole or not at all, also when several runs make the same one at the same time. A tokenizer that is trained
here is known only afterwards; a note of which entry came of it is kept under what was asked for. A folder that
`prepare.py` made is opened where it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from lightwell import atomic
from lightwell.corpus.manifest import Prepared, open_prepared, prepared_folder, refuse_other_settings
from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.text.documents import Document, read_documents
from lightwell.text.paths import expanded
from lightwell.text.split import Split, split_documents
from lightwell.tokens.fast_encoding import EncodersDifferError
from lightwell.tokens.table_encoding import Ids
from lightwell.tokens.token_file import TokenFile
from lightwell.tokens.tokenizer import KINDS, Tokenizer, make_tokenizer

FORMAT = 1
"""Version of what is in a cache entry; entries of an older one are then made again."""
UNFINISHED = "unfinished-"
"""Beginning of the name of a folder that is being written."""
ABANDONED_AFTER = 24 * 3600
"""Seconds after which an unfinished folder is taken for one whose process was killed, and removed."""
ROUND_TRIP_SAMPLE = 10_000
"""Characters on which a tokenizer from a file is tried: does it give the text back?"""
COUNTED_AT_ONCE = 1 << 22
"""Tokens whose bytes are counted at once, which bounds the memory."""


@dataclass(frozen=True)
class Corpus:
    """Tokens to train on and tokens that are held out, with the tokenizer that made them."""

    train: TokenFile
    held_out: TokenFile
    tokenizer: Tokenizer
    documents: int
    """Documents read, before the split."""
    report: list[str]
    """What was read, skipped, held out and encoded, in sentences."""
    digest: str
    """SHA-256 of the tokenizer and of both sides' tokens: equal exactly where a run learns from the same ids."""


def prepare(
    config: TextConfig,
    vocab_size: int,
    *,
    tokenizer: Tokenizer | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    checked: bool = False,
) -> Corpus:
    """Read the text of `config`, split it, make its tokenizer and encode both sides; or find all that in the cache.

    Args:
        config: what to read and how.
        vocab_size: tokens of a tokenizer trained here; 0 chooses by the size of the text.
        tokenizer: a tokenizer that there is already, used as it is; then `config.tokenizer` and `vocab_size` are not.
        cache: the cache folder; None takes `cache_folder()`.
        say: is given each sentence of the report as soon as it is known.
        checked: prepared text need not be held against its hashes: another process does so on this machine.

    Raises:
        TextError: the text or the tokenizer cannot be had, or the cache cannot be written, e.g. on a full disk.
        SettingError: `config.tokenizer` is misspelt, or was another one when the text was prepared.
    """
    if folder := prepared_folder(config.paths):
        refuse_other_settings(folder, config, vocab_size)
        return _of_shards(open_prepared(folder, tokenizer, checked=checked), say)
    report: list[str] = []

    def tell(sentences: Sequence[str]) -> None:
        for sentence in sentences:
            report.append(sentence)
            say(sentence)

    if tokenizer is None and config.tokenizer not in KINDS:
        tokenizer = make_tokenizer(config, vocab_size, ())  # from a file; if it is refused, nothing is read
    documents, reading = read_documents(config)
    tell(reading.sentences())
    keeper = _Keeper((cache or cache_folder()) / "tokens", documents, config.validation_fraction)
    asked = f"{config.tokenizer} {vocab_size} {config.end_of_text} {tokenizers.__version__}"
    entry = keeper.entry(tokenizer.fingerprint) if tokenizer else keeper.noted(asked)
    kept = None
    if entry is not None and entry.exists():
        try:
            kept = _open(entry, tokenizer)
        except TextError as damage:
            tell([f"{damage} This is done now."])
    if kept is not None:
        tell([*kept.report, f"These tokens were made before and are reused from {entry}."])
    else:
        split = split_documents(documents, config.validation_fraction)
        if tokenizer is None:
            tokenizer = make_tokenizer(config, vocab_size, [document.text for document in split.train])
        kept = keeper.keep(split, tokenizer, asked)
        tell(kept.report)
    return dataclasses.replace(kept, report=report)


def _of_shards(opened: Prepared, say: Callable[[str], None]) -> Corpus:
    """Return the corpus in a folder of prepared text."""
    manifest = opened.manifest
    report = [*manifest.report, f"These tokens were prepared before, in {opened.folder}."]
    for sentence in report:
        say(sentence)
    documents = manifest.train.documents + manifest.validation.documents
    return Corpus(opened.train, opened.held_out, opened.tokenizer, documents, report, manifest.digest)


def cache_folder() -> Path:
    """Return $LIGHTWELL_CACHE, else lightwell in $XDG_CACHE_HOME, else ~/.cache/lightwell."""
    own, general = os.environ.get("LIGHTWELL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return expanded(own)
    return (Path(general) if general else Path.home() / ".cache") / "lightwell"


class _Keeper:
    """Where the tokens of one text, split in one way, are kept: an entry for each tokenizer."""

    def __init__(self, folder: Path, documents: Sequence[Document], fraction: float) -> None:
        self.folder = folder
        self.documents = len(documents)
        texts = hashlib.sha256(b"".join(document.digest for document in documents)).hexdigest()
        self._key = f"{FORMAT} {texts} {fraction!r}"

    def entry(self, fingerprint: str) -> Path:
        """Return the folder for the tokens that a tokenizer makes of this text."""
        return self.folder / _short_hash(f"{self._key} {fingerprint}")

    def noted(self, asked: str) -> Path | None:
        """Return the entry that was made the last time when a tokenizer was asked for in these words."""
        try:
            name = self._note(asked).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return self.folder / name if re.fullmatch("[0-9a-f]{32}", name) else None

    def keep(self, split: Split, tokenizer: Tokenizer, asked: str) -> Corpus:
        """Encode both sides into an entry, note what it was asked for by, and open it.

        Raises:
            TextError: the disk is full, or the folder cannot be written.
        """
        entry = self.entry(tokenizer.fingerprint)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.folder)
            beside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
            try:
                try:
                    _write(beside, split, tokenizer, self.documents)
                except EncodersDifferError:  # the tokenizer uses the reference now
                    _write(beside, split, tokenizer, self.documents)
                _put_in_place(beside, entry)
                atomic.write_file(self._note(asked), entry.name.encode())
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except OSError as error:
            raise TextError(_cannot_write(error, self.folder)) from None
        return _open(entry, tokenizer)

    def _note(self, asked: str) -> Path:
        return self.folder / f"{_short_hash(f'{self._key} {asked}')}.note"


def _write(folder: Path, split: Split, tokenizer: Tokenizer, documents: int) -> None:
    """Write the files of an entry."""
    train = TokenFile.write(folder, "train", (document.text for document in split.train), tokenizer)
    held_out = TokenFile.write(folder, "validation", (document.text for document in split.held_out), tokenizer)
    tokenizer.save(folder / "tokenizer.json")
    about = {
        "documents": documents,
        "report": [split.how, *_tokenizer_sentences(tokenizer, train, held_out, split.held_out[0].text)],
        "digest": _digest(train, held_out, tokenizer),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _open(entry: Path, tokenizer: Tokenizer | None = None) -> Corpus:
    """Map a cache entry; a tokenizer that made it need not be loaded again.

    Raises:
        TextError: something in it is damaged.
    """
    try:
        about: dict[str, Any] = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        documents, report, digest = about["documents"], about["report"], about["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextError(f"The tokens {entry} are damaged ({error}); make them again.") from None
    tokenizer = tokenizer or Tokenizer.load(entry / "tokenizer.json")
    train, held_out = TokenFile.open(entry, "train"), TokenFile.open(entry, "validation")
    if digest != _digest(train, held_out, tokenizer):
        raise TextError(f"The tokens {entry} are damaged (their parts do not belong together); make them again.")
    return Corpus(train, held_out, tokenizer, documents, report, digest)


def _put_in_place(folder: Path, entry: Path) -> None:
    """Rename the finished folder to the entry; one that another process put there meanwhile stays if it is intact."""
    damaged = folder.with_name(f"{folder.name}-damaged")
    while True:
        try:
            folder.rename(entry)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            _open(entry)
            break
        except TextError:  # the reason for making it again; another process may be moving it away, too
            with contextlib.suppress(FileNotFoundError):
                entry.rename(damaged)
    shutil.rmtree(damaged, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for path in [*parent.glob(f"{UNFINISHED}*"), *parent.glob(f"*{atomic.UNFINISHED}")]:
        with contextlib.suppress(FileNotFoundError):  # another process has removed or finished it
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _tokenizer_sentences(tokenizer: Tokenizer, train: TokenFile, held_out: TokenFile, sample: str) -> list[str]:
    """Return what the tokenizer made of the text, and what it lost.

    Raises:
        TextError: it made nothing of one of the sides.
    """
    for side, tokens in (("training", train), ("held-out", held_out)):
        if len(tokens) == tokens.documents + 1:  # only the tokens between documents
            raise TextError(
                f"The tokenizer makes no tokens at all of the {tokens.text_bytes:,} bytes of {side} text; "
                "choose one that was made for such text, or --tokenizer bpe."
            )
    text_bytes = train.text_bytes + held_out.text_bytes
    text_tokens = len(train) + len(held_out) - train.documents - held_out.documents - 2
    sentences = [
        f"The {tokenizer.kind} tokenizer has {tokenizer.vocab_size:,} tokens, each {text_bytes / text_tokens:.2f} "
        f"bytes on average: {len(train):,} to train on and {len(held_out):,} held out."
    ]
    if tokenizer.kind != "file":  # those made here spell every byte
        return sentences
    sample = sample[:ROUND_TRIP_SAMPLE]
    if tokenizer.decode(tokenizer.encode(sample)) != sample:
        sentences.append("This tokenizer does not give every text back as it was: it changes or loses characters.")
    spelt = sum(spelt_bytes(side, tokenizer.byte_lengths) for side in (train, held_out))
    if spelt != text_bytes:
        sentences.append(
            f"The tokens of this tokenizer spell {spelt:,} bytes, but the text has {text_bytes:,}: "
            "it changes, loses or adds characters."
        )
    return sentences


def spelt_bytes(tokens: TokenFile, byte_lengths: Ids) -> int:
    """Return how many bytes the tokens stand for together, by the `byte_lengths` (V,) of their tokenizer.

    Equal to `tokens.text_bytes` where the tokenizer spells every byte of a text.
    """
    counts = np.zeros(len(byte_lengths), dtype=np.int64)
    for start in range(0, len(tokens), COUNTED_AT_ONCE):
        counts += np.bincount(tokens.tokens[start : start + COUNTED_AT_ONCE], minlength=len(byte_lengths))
    return int(counts @ byte_lengths)


def _digest(train: TokenFile, held_out: TokenFile, tokenizer: Tokenizer) -> str:
    return hashlib.sha256(f"{tokenizer.fingerprint} {train.digest} {held_out.digest}".encode()).hexdigest()


def _cannot_write(error: OSError, folder: Path) -> str:
    remedy = "set LIGHTWELL_CACHE to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {folder} is full; free some space or {remedy}."
    return f"The tokens cannot be written to {folder} ({error.strerror}); {remedy}."


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
