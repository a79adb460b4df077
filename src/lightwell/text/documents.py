"""Paths become documents, and a report of everything that was left out or could not be decoded.

A document is one run of text that belongs together: a file, or one record of a .jsonl, .csv, .tsv or .parquet file.
What a user names must be readable, else it is an error; what is only found in a named folder or by a glob is skipped
with its reason. Nothing is dropped without a sentence in the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.text.corpora import bible_chapters, stdlib_sources
from lightwell.text.decoding import Undecodable, UnreadableError, empty_file
from lightwell.text.formats import FileReader
from lightwell.text.sources import Source, find_sources

NAMES_SHOWN = 3
"""File names that a sentence of the report spells out before it says how many more there are."""


@dataclass(frozen=True)
class Document:
    """A text that belongs together, and where it came from ("notes.md", "mail.jsonl:17", "Genesis 1")."""

    source: str
    text: str

    @cached_property
    def size(self) -> int:
        """Return how many bytes the text has in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())

    @cached_property
    def digest(self) -> bytes:
        """Return the SHA-256 of the text in UTF-8; the source does not count."""
        return hashlib.sha256(self.text.encode()).digest()


@dataclass(frozen=True)
class Skipped:
    """A file or folder that was found but not read; the reason completes "it ..."."""

    source: str
    reason: str


@dataclass
class ReadReport:
    """What reading gave: files, documents and bytes read, and everything that was not taken as it stood."""

    files: int = 0
    documents: int = 0
    bytes: int = 0
    """The bytes of all documents together, in UTF-8."""
    skipped: list[Skipped] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)
    empty_records: dict[str, int] = field(default_factory=dict)
    """The number of records that hold no text, by file."""
    remarks: list[str] = field(default_factory=list)
    """Sentences about how single files were read."""

    def sentences(self) -> list[str]:
        """Return the report for people, the most important first."""
        documents, files = count_of(self.documents, "document"), count_of(self.files, "file")
        lines = [f"Read {documents} from {files}, {self.bytes:,} bytes."]
        lines += [item.sentence() for item in self.undecodable]
        lines += self.remarks[:NAMES_SHOWN]
        if len(self.remarks) > NAMES_SHOWN:
            lines.append(f"Of {count_of(len(self.remarks) - NAMES_SHOWN, 'more file')} there is as much to say.")
        lines += [f"{count_of(number, 'record')} of {name} had no text." for name, number in self.empty_records.items()]
        by_reason: dict[str, list[str]] = {}
        for skipped in self.skipped:
            by_reason.setdefault(skipped.reason, []).append(skipped.source)
        for reason, names in by_reason.items():
            shown, more = ", ".join(names[:NAMES_SHOWN]), len(names) - NAMES_SHOWN
            rest = f" and {more:,} more" if more > 0 else ""
            what = f"Skipped {len(names):,} because each" if len(names) > 1 else "Skipped 1 because it"
            lines.append(f"{what} {reason}: {shown}{rest}.")
        return lines


def read_documents(config: TextConfig) -> tuple[list[Document], ReadReport]:
    """Read the documents of `config.paths`, or of the default corpus where no paths are given.

    Text is decoded as UTF-8 and otherwise left as it is: line ends, spaces and trailing newlines included; only a
    byte order mark at the start is dropped. The order is that of the paths, sorted by name inside a folder.

    Raises:
        TextError: a path that is missing, empty, binary or damaged, a field or column that is not there, or no text
            in all of the paths.
    """
    if not config.paths and config.corpus == "bible":
        chapters = [Document(name, text) for name, text in bible_chapters()]
        return chapters, ReadReport(1, len(chapters), sum(chapter.size for chapter in chapters))
    sources = find_sources(config.paths) if config.paths else stdlib_sources()
    report = ReadReport(skipped=[Skipped(name, reason) for name, reason in sources.skipped])
    documents: list[Document] = []
    for source in sources.files:
        try:
            documents += _read_source(source, config.text_field, report)
        except UnreadableError as trouble:
            if source.named:
                raise TextError(f"{source.name} {trouble.reason}; {trouble.remedy}.") from None
            report.skipped.append(Skipped(source.name, trouble.reason))
    report.documents = len(documents)
    report.bytes = sum(document.size for document in documents)
    if not documents:
        raise TextError(_nothing_found(config.paths, report))
    return documents, report


def _read_source(source: Source, text_field: str, report: ReadReport) -> list[Document]:
    reader = FileReader(source.path, source.name, text_field, strict=source.named)
    documents: list[Document] = []
    empty = 0
    for texts, numbers in reader.texts():
        names = [source.name] if numbers is None else (f"{source.name}:{number}" for number in numbers)
        some = [Document(name, text) for name, text in zip(names, texts, strict=True) if text.strip()]
        empty += len(texts) - len(some)
        documents += some
    if not documents:
        raise empty_file()
    report.files += 1
    if empty:
        report.empty_records[source.name] = empty
    report.undecodable += reader.undecodable()
    report.remarks += reader.remarks()
    return documents


def _nothing_found(paths: Sequence[str], report: ReadReport) -> str:
    where = ", ".join(paths) or "Python's standard library"
    if not report.skipped:
        return f"There are no files in {where}; name a file or folder that holds text."
    first, others = report.skipped[0], len(report.skipped) - 1
    rest = f", and {count_of(others, 'other')} were skipped too" if others else ""
    return f"There is no text to read in {where}: {first.source} {first.reason}{rest}."


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: 1,234 documents, 1 document."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
