"""The documents of a unit in blocks of a few megabytes, so that a file of any size is read in bounded memory.

text/formats.py reads, as it does for documents.py; only a plain text that is larger than a unit becomes several
documents here. What cannot be read is an error where its name was given, or where documents of the same file were taken
already; else it is skipped with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lightwell.corpus.units.cutting import DOCUMENT_BYTES, FileRange, Unit, cut_text
from lightwell.errors import TextError
from lightwell.text.decoding import Undecodable, UnreadableError, empty_file
from lightwell.text.documents import Skipped
from lightwell.text.formats import FileReader
from lightwell.text.unpacking import ALL, BLOCK


@dataclass
class Findings:
    """What reading came upon in one or more units, for the report."""

    files: int = 0
    """The files whose first documents were read."""
    documents: int = 0
    bytes: int = 0
    """The bytes of the documents in UTF-8."""
    empty_records: int = 0
    cut: list[str] = field(default_factory=list)
    """Plain files that were taken as several documents."""
    skipped: list[Skipped] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Sentences about how single files, or ranges of them, were read."""

    def add(self, other: Findings) -> None:
        """Count in what another unit came upon."""
        self.files += other.files
        self.documents += other.documents
        self.bytes += other.bytes
        self.empty_records += other.empty_records
        self.cut += other.cut
        self.skipped += other.skipped
        self.undecodable += other.undecodable
        self.remarks += other.remarks


def read_unit(unit: Unit, text_field: str, unit_bytes: int, findings: Findings) -> Iterator[list[str]]:
    """Yield all documents of a unit, in order, in blocks; `findings` are filled on the way (but for `bytes`).

    Raises:
        TextError: a file that must be readable is not.
    """
    for file_range in unit.ranges:
        yield from _read_range(file_range, text_field, unit_bytes, findings)


def _read_range(file_range: FileRange, text_field: str, unit_bytes: int, findings: Findings) -> Iterator[list[str]]:
    reader = _reader(file_range, text_field)
    any_text, empty = False, 0
    try:
        for texts in _texts(reader, file_range, unit_bytes, findings):
            documents = [text for text in texts if text and not text.isspace()]
            empty += len(texts) - len(documents)
            if documents:
                findings.files += not any_text and file_range.start == 0
                any_text = True
                findings.documents += len(documents)
                yield documents
        if not any_text and file_range.start == 0:
            raise empty_file()
    except UnreadableError as trouble:
        taken_before = any_text or (file_range.start and file_range.kind != "plain")
        if file_range.source.named or (taken_before and not reader.wrong_lines):
            raise TextError(f"{file_range.source.name} {trouble.reason}; {trouble.remedy}.") from None
        findings.skipped.append(Skipped(file_range.source.name, trouble.reason))
        return
    if file_range.kind != "file" and file_range.kind != "plain":
        findings.empty_records += empty
    findings.undecodable += reader.undecodable()
    findings.remarks += reader.remarks()


def _reader(file_range: FileRange, text_field: str) -> FileReader:
    path, name, strict = file_range.source.path, file_range.source.name, file_range.source.named
    if file_range.kind == "file":
        return FileReader(path, name, text_field, at_once=ALL, strict=strict)
    end = None if file_range.kind == "stream" else file_range.end
    return FileReader(path, name, text_field, file_range.start, end, at_once=BLOCK, strict=strict)


def _texts(reader: FileReader, file_range: FileRange, unit_bytes: int, findings: Findings) -> Iterator[list[str]]:
    """Yield blocks of texts, empty ones among them."""
    if file_range.kind == "plain" or (file_range.kind == "stream" and not reader.has_records):
        yield from _plain(reader, file_range, unit_bytes, findings)
    else:
        for texts, _ in reader.texts():
            yield texts


def _plain(reader: FileReader, file_range: FileRange, unit_bytes: int, findings: Findings) -> Iterator[list[str]]:
    """Yield a range of a large plain file, or a packed one, as several documents; as one where it fits into a unit."""
    data = b""
    several = is_cut = file_range.kind == "plain"
    for block in reader.blocks():
        data += block
        several = several or len(data) > unit_bytes
        # What a piece ends with is looked for in bytes that are here; the rest waits for the next block.
        *pieces, data = cut_text(data, min(DOCUMENT_BYTES, unit_bytes)) if several else [data]
        for piece in pieces:
            yield [reader.decode(piece)]
            is_cut = True
    if is_cut and not file_range.start:
        findings.cut.append(file_range.source.name)
    if data:
        yield [reader.decode(data)]
