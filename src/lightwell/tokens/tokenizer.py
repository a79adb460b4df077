"""Text to token ids and back. One class for every tokenizer: made from the text, or loaded from a file.

    "In the beginning" --encode--> [  401, 268, 1507 ] --decode--> "In the beginning"

It wraps the tokenizers library and keeps three promises that the library alone does not: text that merely looks like a
special token never becomes one, tokenizers without merges are as fast as a table, and each token's bytes are known.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import tokenizers

from lightwell.arguments import checked, shown
from lightwell.errors import SettingError, TextError
from lightwell.settings import nearest
from lightwell.text.config import TextConfig
from lightwell.text.paths import expanded
from lightwell.tokens.building import END_OF_TEXT, build_bpe, build_byte, build_character
from lightwell.tokens.fast_encoding import DIFFER, WORTH_IT, EncodersDifferError, FastEncoder, fast_encoder
from lightwell.tokens.loading import (
    find_end_of_text,
    keep_specials_out,
    known_end_of_text,
    load_backend,
    refuse_foreign,
    write_end_of_text,
)
from lightwell.tokens.pieces import PIECE, can_be_cut, cut_in_pieces
from lightwell.tokens.table_encoding import DirectEncoder, Ids
from lightwell.tokens.token_bytes import byte_alphabet, decoder_names, fallback_byte, token_bytes

Kind: TypeAlias = Literal["character", "byte", "bpe", "file"]
KINDS = ("character", "byte", "bpe")
"""The tokenizers that are made from the text; every other name is the path of a file or folder."""

GROUP = 200
"""Pieces that are encoded at once, which bounds the memory: the library keeps about 100 bytes for a token."""


class Tokenizer:
    """Encodes and decodes text.

    Args:
        backend: the tokenizer of the tokenizers library.
        end_of_text: the token that stands between documents; it must be in the vocabulary.
    """

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str) -> None:
        backend.encode_special_tokens = True  # a text that says <|endoftext|> is a text, not the end of one
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self._backend = backend
        spec: dict[str, Any] = json.loads(backend.to_str())
        self._end_of_text_name = end_of_text
        tokens = [""] * (max(vocabulary.values()) + 1)  # ids may have holes, so the count of tokens can be less
        for token, index in vocabulary.items():
            tokens[index] = token
        added = {entry["content"] for entry in spec["added_tokens"]}
        self._specials = {entry["id"] for entry in spec["added_tokens"] if entry["special"]}
        self._bytes, self.joins_bytes = token_bytes(tokens, added, spec)
        self.vocab_size: int = len(tokens)
        """V: one more than the highest id."""
        self.end_of_text: int = vocabulary[end_of_text]
        """The id of the token that stands between documents."""
        self.kind: Kind = _kind(spec, end_of_text)
        """One of KINDS where `make_tokenizer` makes such a tokenizer from a text, else file."""
        self._direct = _direct_encoder(self.kind, vocabulary, self._specials)
        self._can_cut = can_be_cut(spec)
        self._trusted = False  # whether the faster encoder has encoded anything

    @cached_property
    def _fast(self) -> FastEncoder | None:
        """Return the faster encoder, made when it is first asked for: it takes some 60 MB."""
        return None if self._direct else fast_encoder(self._backend.to_str())

    def encode(self, text: str) -> Ids:
        """Return the token ids of `text`, (T,). No special token is added, and none is read out of the text.

        Raises:
            TextError: the text holds half of a surrogate pair, which is no character.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, as `encode` gives them, on all CPU cores.

        Raises:
            TextError: a text holds half of a surrogate pair, which is no character.
            EncodersDifferError: the faster encoder differs after it has encoded other texts; it is not used any more,
                and what was encoded before is to be encoded again.
        """
        for text in texts:
            _check_characters(text)
        if self._direct is not None:
            return [self._direct(text) for text in texts]
        pieces = [list(cut_in_pieces(text)) if self._can_cut else [text] for text in texts]
        every = list(itertools.chain.from_iterable(pieces))
        ids = iter(self._encode_fast(every) or self._encode_pieces(iter(every)))
        return [np.concatenate(list(itertools.islice(ids, len(parts)))) for parts in pieces]

    def encode_flat(self, texts: Sequence[str], *, checked: int = PIECE) -> tuple[npt.NDArray[Any], Ids]:
        """Return the ids of many texts in a row, (T,), and the edges between them, (texts + 1,): `encode_batch` for
        bulk.

        checked: about how many characters of the texts, from the first on, are held against the reference.

        Raises:
            EncodersDifferError: the faster encoder differs, and is not used any more; what was encoded before, here or
                by other processes, is to be encoded again.
        """
        if self._fast is None:
            ids = self.encode_batch(texts)
            return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64)
        try:
            flat, edges = self._fast.flat(texts)
            same = len(edges) == len(texts) + 1 and edges[-1] == len(flat) and self._same(texts, flat, edges, checked)
        except Exception:  # whatever went wrong in it: there is the reference
            same = False
        if not same:
            self.leave_fast_encoder()
            raise EncodersDifferError(DIFFER)
        return flat, edges

    def leave_fast_encoder(self) -> None:
        """Encode by the reference alone from now on."""
        self._fast = None

    def _same(self, texts: Sequence[str], flat: npt.NDArray[Any], edges: Ids, checked: int) -> bool:
        """Return whether the faster encoder's ids of the first texts, `checked` characters or more, are the
        reference's.
        """
        assert self._fast is not None
        for number, text in enumerate(texts):
            if checked <= 0:
                break
            checked -= len(text)
            ids = flat[edges[number] : edges[number + 1]]
            if len(text) > 2 * PIECE:  # the reference would take long for all of it
                text = text[:PIECE]
                ids, _ = self._fast.flat([text])
            (expected,) = self._encode_pieces(iter([text]))
            if not np.array_equal(ids, expected):
                return False
        return True

    @property
    def encoder(self) -> str:
        """Return the package that encodes large texts."""
        return "lightwell" if self._direct is not None else "fastokens" if self._fast is not None else "tokenizers"

    def _encode_fast(self, pieces: Sequence[str]) -> list[Ids] | None:
        """Return the ids of many pieces by the faster encoder, one piece held against the reference; None without it.

        Raises:
            EncodersDifferError: they differ, and this encoder was trusted before.
        """
        if self._fast is None or sum(map(len, pieces)) < WORTH_IT:
            return None
        sizes = [len(piece) for piece in pieces]
        compared = max(range(len(pieces)), key=lambda index: min(sizes[index], 2 * PIECE - sizes[index] // 2))
        try:
            ids = self._fast(pieces)
            (expected,) = self._encode_pieces(iter([pieces[compared]]))
            same = len(ids) == len(pieces) and np.array_equal(ids[compared], expected)
        except TextError:
            raise
        except Exception:  # whatever went wrong in it: there is the reference
            same = False
        if same:
            self._trusted = True
            return ids
        self.leave_fast_encoder()
        if self._trusted:
            raise EncodersDifferError(DIFFER)
        return None

    def _encode_pieces(self, pieces: Iterator[str]) -> Iterator[Ids]:
        while group := list(itertools.islice(pieces, GROUP)):
            for encoding in self._backend.encode_batch_fast(group, add_special_tokens=False):
                yield np.array(encoding.ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; special tokens appear by their names. `decode(encode(text)) == text` for any
        text.

        That equation holds for every tokenizer made here and for GPT-2's; a file's tokenizer may change text itself.
        Bytes that make no character, as in the middle of a generation, become U+FFFD.
        """
        numbers = self._known(ids)
        if self.joins_bytes:
            return b"".join([self._bytes[number] for number in numbers]).decode(errors="replace")
        return self._backend.decode(numbers, skip_special_tokens=False)

    def _known(self, ids: Iterable[int]) -> list[int]:
        """Return token ids as a list.

        Raises:
            TextError: one of them is no id of this vocabulary.
        """
        if not isinstance(ids, Iterable):
            raise TextError(f"{shown(ids)} is no list of token ids.")
        array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
        if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
            raise TextError(f"{shown(ids)} is no list of token ids; they are whole numbers below {self.vocab_size:,}.")
        numbers: list[int] = array.astype(np.int64).tolist()
        wrong = next((number for number in numbers if not 0 <= number < self.vocab_size), None)
        if wrong is not None:
            raise TextError(f"{wrong} is no token id of this vocabulary, which has {self.vocab_size:,}, from 0.")
        return numbers

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that one token stands for; a special token's are those of its name."""
        return self._bytes[token]

    @cached_property
    def byte_lengths(self) -> Ids:
        """Return how many bytes of text each token stands for, (V,); 0 for special tokens, which stand for no text."""
        lengths = np.array([len(data) for data in self._bytes], dtype=np.int64)
        lengths[list(self._specials)] = 0
        return lengths

    def token_text(self, token: int) -> str:
        """Return one token made visible: control characters and bytes that are no character are written as escapes."""
        text = self._bytes[token].decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of all that decides the ids, the same on every machine and after saving and loading."""
        return hashlib.sha256(f"{self._backend.to_str()}\n{self._end_of_text_name}".encode()).hexdigest()

    @checked
    def save(self, path: Path) -> None:
        """Write a tokenizer.json, which other tools read too.

        Where the end-of-text token has no usual name, a tokenizer_config.json beside it says which one it is.

        Raises:
            TextError: there is a file that is no tokenizer.json.
        """
        refuse_foreign(path)
        path.write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
        if known_end_of_text(self._backend, path) != self._end_of_text_name:
            write_end_of_text(path, self._end_of_text_name)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str], end_of_text: str = "") -> Self:
        """Read a tokenizer.json, or a folder with one or with GPT-2's files (see loading.py).

        Args:
            path: the file or folder.
            end_of_text: the token that stands between documents; "" finds it.

        Raises:
            TextError: nothing readable is there, or no end-of-text token is known.
        """
        path = expanded(path)
        backend = load_backend(path)
        name = find_end_of_text(backend, path, end_of_text)
        return cls(keep_specials_out(backend, path, name), name)


def make_tokenizer(config: TextConfig, vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """Make or load the tokenizer that `config.tokenizer` names.

    Args:
        config: its `tokenizer` and `end_of_text` are used.
        vocab_size: 0 leaves it open: bpe then chooses by the size of the text, see `chosen_vocab_size`.
        texts: the training texts, and only those, for character and bpe; not read for the others.

    Raises:
        SettingError: `config.tokenizer` is no kind and looks like no path, or `end_of_text` is not for this kind.
        TextError: the file cannot be loaded, or the tokenizer cannot have `vocab_size` tokens.
    """
    name = config.tokenizer
    if name in KINDS and config.end_of_text not in ("", END_OF_TEXT):
        raise SettingError(
            f"end_of_text is {config.end_of_text!r}, but a {name} tokenizer always ends a text with {END_OF_TEXT}; "
            "leave end_of_text out, or name a tokenizer from a file."
        )
    if name == "bpe":
        return Tokenizer(build_bpe(list(texts), vocab_size), END_OF_TEXT)
    if name == "byte":
        tokenizer = Tokenizer(build_byte(), END_OF_TEXT)
    elif name == "character":
        tokenizer = Tokenizer(build_character(texts), END_OF_TEXT)
    else:
        tokenizer = Tokenizer.load(tokenizer_path(name), config.end_of_text)
    if vocab_size not in (0, tokenizer.vocab_size):
        raise TextError(
            f"The tokenizer {name} has {tokenizer.vocab_size:,} tokens here, but vocab_size is {vocab_size:,}; "
            "leave vocab_size out, or choose --tokenizer bpe."
        )
    return tokenizer


def tokenizer_path(name: str) -> Path:
    """Return the path that a tokenizer's name stands for where it is none of KINDS.

    Raises:
        SettingError: nothing is there, and the name does not look like a path: it is a misspelt kind.
    """
    path = expanded(name)
    if not path.exists() and path.name == name and not path.suffix:
        kinds = ", ".join(KINDS)
        raise SettingError(f"tokenizer is {name!r}, but must be {kinds} or the path of one.{nearest(name, KINDS)}")
    return path


def _kind(spec: dict[str, Any], end_of_text: str) -> Kind:
    """Return the kind, told by what the tokenizer does and not by where it came from, so that it survives saving."""
    model = spec["model"]
    only_end_of_text = [entry["content"] for entry in spec["added_tokens"]] == [END_OF_TEXT] == [end_of_text]
    if model["type"] != "BPE" or spec["normalizer"] is not None or not only_end_of_text:
        return "file"
    decoder, pre_tokenizer = decoder_names(spec), spec["pre_tokenizer"]
    tokens = model["vocab"].keys() - {END_OF_TEXT}
    if decoder == ["ByteFallback", "Fuse"] and pre_tokenizer is None and model["byte_fallback"] and not model["merges"]:
        characters = {token for token in tokens if fallback_byte(token) is None}
        every_byte = len(tokens) - len(characters) == 256
        return "character" if every_byte and all(len(character) == 1 for character in characters) else "file"
    if decoder != ["ByteLevel"] or pre_tokenizer is None or pre_tokenizer["type"] != "ByteLevel":
        return "file"
    if tokens == byte_alphabet().keys() and not pre_tokenizer["add_prefix_space"] and not pre_tokenizer["use_regex"]:
        return "byte"
    return "bpe" if can_be_cut(spec) and model["vocab"].get(END_OF_TEXT) == 0 else "file"


def _direct_encoder(kind: Kind, vocabulary: dict[str, int], specials: set[int]) -> DirectEncoder | None:
    if kind == "byte":
        by_byte = {byte: vocabulary[token] for token, byte in byte_alphabet().items()}
        characters: dict[str, int] = {}
    elif kind == "character":
        by_byte = {byte: index for token, index in vocabulary.items() if (byte := fallback_byte(token)) is not None}
        characters = {token: index for token, index in vocabulary.items() if len(token) == 1 and index not in specials}
    else:
        return None
    return DirectEncoder(np.array([by_byte[byte] for byte in range(256)], dtype=np.int64), characters)


def _check_characters(text: str) -> None:
    if not isinstance(text, str):
        raise TextError(f"A text to encode is {shown(text)}, but must be a str.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"The text has {text[error.start]!r} as character {error.start:,}, half of a character; "
            "give the text as UTF-8."
        ) from None
