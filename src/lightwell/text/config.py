"""What text is read, and how it becomes tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lightwell.settings import Meta, Settings


@dataclass(frozen=True)
class TextConfig(Settings):
    """The corpus, its split and its tokenizer."""

    paths: tuple[str, ...] = ()
    """Files, folders or globs to learn from; none means the default corpus."""
    corpus: Literal["bible", "stdlib"] = "bible"
    """The corpus used when no paths are given: the King James Bible, or the source of Python's standard library."""
    text_field: Annotated[str, Meta(min_length=1)] = "text"
    """The field of a .jsonl record, or the column of a .csv or .parquet table, that holds the text."""
    validation_fraction: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.1
    """The share of the text, by bytes, that is held out and never trained on."""
    tokenizer: Annotated[str, Meta(min_length=1)] = "bpe"
    """character, byte, bpe, or the path of a tokenizer.json or of a folder with encoder.json and vocab.bpe."""
    end_of_text: str = ""
    """The token that keeps documents apart in a tokenizer from a file; empty finds it by the usual names."""


PREPARED = ("text_field", "validation_fraction", "tokenizer", "end_of_text", "vocab_size")
"""The configuration fields that decide what prepared text is."""
