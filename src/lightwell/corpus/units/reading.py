"""The documents of a unit in blocks of a few megabytes, so that a part of any size is read in bounded memory.

The same rules as in documents.py and formats.py, and the same sentences; only whole files are never in memory. What
cannot be read is an error where its name was given, or where documents of the same file were taken already; else it is
skipped with its reason.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from lightwell.corpus.units.units import DOCUMENT_BYTES, Part, Unit, cut_text, suffix_of
from lightwell.errors import TextError
from lightwell.text.documents import Skipped, Undecodable
from lightwell.text.formats import (
    BYTE_ORDER_MARK,
    MOST_UNDECODABLE,
    WIDE_BYTE_ORDER_MARKS,
    Decoding,
    PlainTabs,
    UnreadableError,
    huge_fields,
    json_lines,
    missing,
    read_file,
)
from lightwell.text.parquet import read_groups
from lightwell.text.pieces import gathered
from lightwell.text.unpacking import BLOCK, LARGEST_LINE, read_blocks, whole_lines

Texts = Iterator[list[str]]
ROWS = 64
"""Rows of a table that are read at a time; a row may be large."""


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


def read_unit(unit: Unit, text_field: str, unit_bytes: int, found: Found) -> Texts:
    """Yield all documents of a unit, in order, in blocks; `found` is filled on the way (but for `bytes`).

    Raises:
        TextError: a file that must be readable is not.
    """
    for part in unit.parts:
        yield from _read_part(part, text_field, unit_bytes, found)


def _read_part(part: Part, text_field: str, unit_bytes: int, found: Found) -> Texts:
    reader = _PartReader(part, text_field, unit_bytes, found)
    any_text = False
    try:
        for texts in reader.texts():
            kept = [text for text in texts if text and not text.isspace()]
            reader.empty += len(texts) - len(kept)
            if kept:
                found.files += not any_text and part.start == 0
                any_text = True
                found.documents += len(kept)
                yield kept
        if not any_text and part.start == 0:
            raise UnreadableError("is empty", "name a file that holds text")
    except UnreadableError as trouble:
        if part.source.named or any_text or (part.start and part.kind != "plain"):
            raise TextError(f"{part.source.name} {trouble.reason}; {trouble.remedy}.") from None
        found.skipped.append(Skipped(part.source.name, trouble.reason))
        return
    if part.kind != "whole" and part.kind != "plain":
        found.empty_records += reader.empty
    if reader.decoding.count:
        decoding = reader.decoding
        found.undecodable.append(Undecodable(decoding.first_source, decoding.count, decoding.first_offset))


class _PartReader:
    """The texts of one part, empty ones among them, by the kind of the part and the format of its file."""

    def __init__(self, part: Part, text_field: str, unit_bytes: int, found: Found) -> None:
        self.part = part
        self.path, self.name = part.source.path, part.source.name
        self.field = text_field
        self.unit_bytes = unit_bytes
        self.found = found
        self.decoding = Decoding()
        self.empty = 0
        self.suffix, self.packing = suffix_of(self.path)

    def texts(self) -> Texts:
        """Blocks of texts."""
        if self.part.kind == "whole":
            yield [record.text for record in read_file(self.path, self.name, self.field, self.decoding)]
        elif self.part.kind == "groups":
            groups = range(self.part.start, self.part.end)
            yield from read_groups(self.path, self.name, self.field, groups, self.decoding)
        elif self.suffix in (".jsonl", ".ndjson"):
            yield from self._json()
        elif self.suffix in (".csv", ".tsv"):
            yield from self._table()
        else:
            yield from self._plain()

    def _blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the part, without a byte order mark; the first of a file are looked at."""
        if self.part.kind == "stream":
            blocks = read_blocks(self.path, self.packing)
        else:
            blocks = read_blocks(self.path, "", self.part.start, self.part.end)
        first = self.part.start == 0
        for block in blocks:
            if first and block.startswith(WIDE_BYTE_ORDER_MARKS):
                raise UnreadableError("is UTF-16 text", "convert it to UTF-8")
            if b"\0" in block:
                raise UnreadableError("is binary", "name a file that holds text")
            yield block.removeprefix(BYTE_ORDER_MARK) if first else block
            first = False

    def _decode(self, block: bytes, offset: int) -> str:
        """Return a block as text; `offset` is where it stands in the uncompressed file."""
        before = self.decoding.count
        text = self.decoding.decode(block, self.name)
        if self.decoding.count and not before:
            self.decoding.first_offset += offset
        if self.decoding.count - before > MOST_UNDECODABLE * len(text):
            remedy = "name a text, or convert it to UTF-8"
            raise UnreadableError("is binary or in another encoding than UTF-8", remedy)
        return text

    def _json(self) -> Texts:
        decode = _fields_of_lines(self.field)
        lines = 0  # of this part so far
        offset = self.part.start
        for block in whole_lines(self._blocks()):
            count = block.count(b"\n") + (not block.endswith(b"\n"))
            texts = decode(block, count)
            if texts is None:  # something is unusual: line by line, with a sentence for what is wrong
                text, first = self._decode(block, offset), self._lines_before() + lines + 1
                texts = [record.text for record in json_lines(text, self.name, self.field, self.decoding, first)]
            lines += count
            offset += len(block)
            yield texts

    def _lines_before(self) -> int:
        """Lines of the file before this part; only where a sentence names a line."""
        if not self.part.start:
            return 0
        return sum(block.count(b"\n") for block in read_blocks(self.path, "", 0, self.part.start))

    def _table(self) -> Texts:
        rows = self._rows(self._dialect())
        header = next(rows, [])
        if self.field not in header:
            raise missing("column", self.field, header)
        column = header.index(self.field)
        yield from gathered((row[column] if column < len(row) else "" for row in rows), BLOCK)

    def _dialect(self) -> type[csv.Dialect]:
        """Half of the world quotes in .tsv, half does not; the whole file tells."""
        if self.suffix == ".csv":
            return csv.excel
        try:
            for _ in self._rows(csv.excel_tab):
                pass
        except UnreadableError:
            return PlainTabs
        finally:
            self.decoding = Decoding()  # the bytes are counted when they are read for good
        return csv.excel_tab

    def _rows(self, dialect: type[csv.Dialect]) -> Iterator[list[str]]:
        """Yield the rows that are not blank."""
        reader = csv.reader(self._text_lines(), dialect, strict=True)
        while True:
            try:
                with huge_fields(LARGEST_LINE):  # not held across a yield: the limit belongs to the whole process
                    rows = list(itertools.islice(reader, ROWS))
            except csv.Error as error:
                raise UnreadableError(
                    f"is not a proper table in line {reader.line_num} ({error})",
                    "close every quoted field and double the quotes inside it",
                ) from None
            if not rows:
                return
            yield from (row for row in rows if row)

    def _text_lines(self) -> Iterator[str]:
        offset = 0
        for block in whole_lines(self._blocks()):
            yield from io.StringIO(self._decode(block, offset), newline="")
            offset += len(block)

    def _plain(self) -> Texts:
        """Yield a range of a large plain file, or a packed one, as several documents; as one where it fits into a unit."""
        offset, data = self.part.start, b""
        is_large = self.part.kind == "plain"
        for block in self._blocks():
            data += block
            is_large = is_large or len(data) > self.unit_bytes
            # What a piece ends with is looked for in bytes that are here; the rest waits for the next block.
            *pieces, data = cut_text(data, min(DOCUMENT_BYTES, self.unit_bytes)) if is_large else [data]
            for piece in pieces:
                yield [self._decode(piece, offset)]
                offset += len(piece)
        if not self.part.start and (offset or self.part.kind == "plain"):
            self.found.cut.append(self.name)
        if data:
            yield [self._decode(data, offset)]


def _fields_of_lines(name: str) -> Callable[[bytes, int], list[str] | None]:
    """Gives the field `name` of every line of JSON in a block, or None where not each of its lines is usual."""
    # Renamed, because a field of JSON may have a name that no attribute can have.
    record = msgspec.defstruct("Record", [("text", str | None)], rename={"text": name})
    decoder = msgspec.json.Decoder(record)

    def decode(block: bytes, lines: int) -> list[str] | None:
        try:
            records = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # Blank lines, and records that share a line, are left to the other way.
        return [item.text or "" for item in records] if len(records) == lines else None  # type: ignore[attr-defined]

    return decode
