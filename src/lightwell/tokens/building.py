"""The three tokenizers that are made from the text itself, as objects of the tokenizers library.

All three know every byte, so that any text can be encoded and nothing is ever unknown, and all three have one special
token, <|endoftext|>, that keeps documents apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from lightwell.errors import TextError, VocabularyError
from lightwell.tokens.pieces import PIECE, cut_in_pieces
from lightwell.tokens.token_bytes import byte_alphabet

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's name for the token between documents."""
SMALLEST_VOCABULARY = 257
"""Every byte, and the end-of-text token."""
MIN_FREQUENCY = 2
"""A pair that occurs once is not merged: its token could be learned from one place only."""
LONGEST_WORD = 1000
"""Characters of a text without a space that are trained on as one word."""
BYTES_PER_TOKEN_TYPE = 1000
"""Training bytes for each entry of a vocabulary whose size is left open, so that a token is met often enough."""
CHOSEN_SIZES = (512, 8192)
"""Smallest and largest size that is chosen for the user."""


def build_byte() -> tokenizers.Tokenizer:
    """Return a tokenizer with a token per byte, whose id is the byte's value; <|endoftext|> is 256."""
    backend = tokenizers.Tokenizer(models.BPE(vocab=byte_alphabet(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([_end_of_text()])
    return backend


def build_character(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """Return a tokenizer with a token per character of the texts, in the order of Unicode behind those of the bytes.

    The 256 bytes and <|endoftext|> come first. A character that the texts do not have becomes the tokens of its
    UTF-8 bytes, <0x00> to <0xFF>.
    """
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {END_OF_TEXT: 256}
    for character in sorted(set[str]().union(*texts)):
        vocabulary[character] = len(vocabulary)
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([_end_of_text()])
    return backend


def build_bpe(texts: Sequence[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Return byte-level byte-pair encoding with GPT-2's pattern, trained on the texts; <|endoftext|> is 0.

    Args:
        texts: the training texts.
        vocab_size: tokens in all; 0 chooses by the size of the texts (`chosen_vocab_size`) and takes what is reached.

    Raises:
        TextError: `vocab_size` is below 257, or higher than what the texts have repeated pairs for.
    """
    if vocab_size and vocab_size < SMALLEST_VOCABULARY:
        raise TextError(
            f"vocab_size is {vocab_size}, but bpe needs at least {SMALLEST_VOCABULARY}: 256 bytes and {END_OF_TEXT}."
        )
    size = sum(len(text.encode()) for text in texts)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # A merge takes two bytes or more, so this limit changes nothing; without it the trainer reserves memory for
        # as many tokens as were asked for.
        vocab_size=min(vocab_size or chosen_vocab_size(size), SMALLEST_VOCABULARY + size),
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        special_tokens=[_end_of_text()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(_for_training(texts), trainer)
    reached = backend.get_vocab_size()
    if vocab_size and reached < vocab_size:
        raise VocabularyError(
            reached,
            f"vocab_size is {vocab_size:,}, but this text supports only {reached:,} tokens, because a token must occur "
            f"at least {MIN_FREQUENCY} times; set vocab_size to {reached} or less, or give more text.",
        )
    return backend


def _for_training(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts in pieces. One that had no place to cut is cut anywhere: training takes the square of a word's
    length, minutes for a megabyte of DNA or base64 without a space, and merges are learned from pieces of it as well.
    """
    for text in texts:
        for piece in cut_in_pieces(text):
            if len(piece) <= 2 * PIECE:
                yield piece
            else:
                yield from (piece[start : start + LONGEST_WORD] for start in range(0, len(piece), LONGEST_WORD))


def chosen_vocab_size(size: int) -> int:
    """Return the vocabulary for `size` bytes of training text: a thousandth, as a power of two from 512 to 8,192."""
    smallest, largest = CHOSEN_SIZES
    chosen = smallest
    while chosen < largest and size > chosen * BYTES_PER_TOKEN_TYPE * 2**0.5:
        chosen *= 2
    return chosen


def _end_of_text() -> AddedToken:
    return AddedToken(END_OF_TEXT, special=True, normalized=False)
