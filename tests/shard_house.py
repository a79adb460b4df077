"""A small corpus in several formats, and what preparing it leaves behind."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from lightwell.corpus.prepare import PreparedCorpus, prepare_corpus
from lightwell.text.config import TextConfig

UNIT = 4000
DOCUMENTS = 120


def text_of(number: int) -> str:
    return f"Note {number * 7919}. " + "Rain falls into the well, and the light after it.\n" * (1 + number % 7)


def write_corpus(folder: Path) -> Path:
    """Documents as lines of JSON, packed and not, and as files."""
    folder.mkdir()
    lines = [json.dumps({"text": text_of(number)}) + "\n" for number in range(DOCUMENTS)]
    (folder / "a.jsonl").write_text("".join(lines[:60]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[60:90]).encode()))
    for number in range(90, DOCUMENTS):
        (folder / f"c{number:03}.txt").write_text(text_of(number))
    return folder


def made(corpus: Path, out: Path, **given: Any) -> PreparedCorpus:
    fields = {"tokenizer": "byte", **{name: given.pop(name) for name in list(given) if hasattr(TextConfig, name)}}
    arguments = {"workers": 1, "unit_bytes": UNIT, **given}
    vocab_size = arguments.pop("vocab_size", 0)
    return prepare_corpus(TextConfig(paths=(str(corpus),), **fields), vocab_size, out, **arguments)


def bytes_of(folder: Path) -> dict[str, str]:
    """Every file with the hash of its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
