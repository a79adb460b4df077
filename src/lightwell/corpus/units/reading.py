"""The documents of a unit in blocks of a few megabytes, so that a part of any size is read in bounded memory.

The same rules as in documents.py and formats.py, and the same sentences; only whole files are never in memory. What
cannot be read is an error where its name was given, or where documents of the same file were taken already; else it is
skipped with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lightwell.corpus.units.units import DOCUMENT_BYTES, Part, Unit, cut_text
from lightwell.errors import TextError
from lightwell.text.decoding import Undecodable, UnreadableError, empty_file
from lightwell.text.documents import Skipped
from lightwell.text.formats import FileReader
from lightwell.text.unpacking import ALL, BLOCK


@dataclass
class Found:
    """What reading came upon, for the report."""

    files: int = 0
    """Files of which the first documents were read."""
    documents: int = 0
    bytes: int = 0
    """Bytes of the documents in UTF-8."""
    empty_records: int = 0
    cut: list[str] = field(default_factory=list)
    """Plain files that were taken as several documents."""
    skipped: list[Skipped] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Count in what another unit came upon."""
        self.files += other.files
        self.documents += other.documents
        self.bytes += other.bytes
        self.empty_records += other.empty_records
        self.cut += other.cut
        self.skipped += other.skipped
        self.undecodable += other.undecodable


def read_unit(unit: Unit, text_field: str, unit_bytes: int, found: Found) -> Iterator[list[str]]:
    """Yield all documents of a unit, in order, in blocks; `found` is filled on the way (but for `bytes`).

    Raises:
        TextError: a file that must be readable is not.
    """
    for part in unit.parts:
        yield from _read_part(part, text_field, unit_bytes, found)


def _read_part(part: Part, text_field: str, unit_bytes: int, found: Found) -> Iterator[list[str]]:
    reader = _reader(part, text_field)
    any_text, empty = False, 0
    try:
        for texts in _texts(reader, part, unit_bytes, found):
            documents = [text for text in texts if text and not text.isspace()]
            empty += len(texts) - len(documents)
            if documents:
                found.files += not any_text and part.start == 0
                any_text = True
                found.documents += len(documents)
                yield documents
        if not any_text and part.start == 0:
            raise empty_file()
    except UnreadableError as trouble:
        if part.source.named or any_text or (part.start and part.kind != "plain"):
            raise TextError(f"{part.source.name} {trouble.reason}; {trouble.remedy}.") from None
        found.skipped.append(Skipped(part.source.name, trouble.reason))
        return
    if part.kind != "whole" and part.kind != "plain":
        found.empty_records += empty
    if undecodable := reader.undecodable():
        found.undecodable.append(undecodable)


def _reader(part: Part, text_field: str) -> FileReader:
    path, name = part.source.path, part.source.name
    if part.kind == "whole":
        return FileReader(path, name, text_field, at_once=ALL)
    end = None if part.kind == "stream" else part.end
    return FileReader(path, name, text_field, part.start, end, at_once=BLOCK)


def _texts(reader: FileReader, part: Part, unit_bytes: int, found: Found) -> Iterator[list[str]]:
    """Yield blocks of texts, empty ones among them."""
    if part.kind == "plain" or (part.kind == "stream" and not reader.has_records):
        yield from _plain(reader, part, unit_bytes, found)
    else:
        for texts, _ in reader.texts():
            yield texts


def _plain(reader: FileReader, part: Part, unit_bytes: int, found: Found) -> Iterator[list[str]]:
    """Yield a range of a large plain file, or a packed one, as several documents; as one where it fits into a unit."""
    data = b""
    several = is_cut = part.kind == "plain"
    for block in reader.blocks():
        data += block
        several = several or len(data) > unit_bytes
        # What a piece ends with is looked for in bytes that are here; the rest waits for the next block.
        *pieces, data = cut_text(data, min(DOCUMENT_BYTES, unit_bytes)) if several else [data]
        for piece in pieces:
            yield [reader.decode(piece)]
            is_cut = True
    if is_cut and not part.start:
        found.cut.append(part.source.name)
    if data:
        yield [reader.decode(data)]
