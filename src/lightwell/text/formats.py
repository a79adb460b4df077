"""One file becomes records of text: uncompress, decode, and take apart by the format that its name tells.

    mail.jsonl.gz --gunzip--> bytes --UTF-8--> text --a line each--> records

.gz and .zst are uncompressed first; .jsonl and .ndjson give a record per line, .csv and .tsv one per row, .parquet one
per row of a column; every other file is one record, its whole text.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import stat
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
"""Bytes given to the zstandard decoder at a time."""
LARGEST_WINDOW = 1 << 31
"""Bytes that a .zst frame may look back; large corpora are packed with zstd --long=31, above the library's limit."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
LARGEST_FIELD = min(sys.maxsize, 2**31 - 1)
"""Characters in a .csv field; the csv module's own limit is 131,072, and its highest is that of a C long."""
NAMES_SHOWN = 20
"""Fields or columns that a sentence spells out before it says how many more there are."""

_csv_limit = threading.Lock()


class UnreadableError(Exception):
    """A file that is not readable text: "FILE {reason}; {remedy}." It is an error or a skip, as the caller decides."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Record:
    """One text of a file; the name is the file's, with ":number" (from 1) where the file holds several."""

    name: str
    text: str


MOST_UNDECODABLE = 0.25
"""Share of a text that may be undecodable; beyond it hardly a word would be left. Western text in Latin-1 has 0.05."""


@dataclass
class Decoding:
    """What one file held that is not UTF-8: how many byte sequences, and where the first one was."""

    count: int = 0
    first_source: str = ""
    first_offset: int = 0

    def decode(self, data: bytes, source: str) -> str:
        """Text of `data`, each maximal undecodable sequence replaced by one U+FFFD and counted (Unicode 16, 3.9)."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            # 0xEF always begins a new sequence, so a U+FFFD that the file itself holds is found by its three bytes.
            self._add(text.count("\ufffd") - data.count(b"\xef\xbf\xbd"), source, error.start)
            return text

    def clean(self, text: str, source: str) -> str:
        """`text` without lone surrogates: JSON can spell halves of a character that no UTF-8 stands for."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self._add(sum("\ud800" <= c <= "\udfff" for c in text), source, len(text[: error.start].encode()))
            return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        return text

    def _add(self, count: int, source: str, offset: int) -> None:
        if not self.count:
            self.first_source, self.first_offset = source, offset
        self.count += count


def read_file(path: Path, name: str, field: str, decoding: Decoding) -> list[Record]:
    """Return all records of one file; `field` names the JSON field or the table's column. `name` is how records call
    the file.

    Raises:
        UnreadableError: the file is empty, binary, damaged, not readable, or has no such field or column.
    """
    data, suffix = _read_bytes(path)
    if not data:
        raise UnreadableError("is empty", "name a file that holds text")
    if suffix == ".parquet":
        return list(_parquet(data, name, field, decoding))
    if data.startswith(WIDE_BYTE_ORDER_MARKS):
        raise UnreadableError("is UTF-16 text", "convert it to UTF-8")
    if b"\0" in data:
        raise UnreadableError("is binary", "name a file that holds text")
    text = decoding.decode(data, name)
    if decoding.count > MOST_UNDECODABLE * len(text):
        raise UnreadableError("is binary or in another encoding than UTF-8", "name a text, or convert it to UTF-8")
    if data.startswith(BYTE_ORDER_MARK):
        text = text[1:]
    if suffix in (".jsonl", ".ndjson"):
        return list(json_lines(text, name, field, decoding))
    if suffix in (".csv", ".tsv"):
        return list(_table(text, name, field, suffix))
    return [Record(name, text)]


def _read_bytes(path: Path) -> tuple[bytes, str]:
    """Return the uncompressed bytes, and the suffix that tells the format, e.g. ".jsonl" of "mail.jsonl.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device might never end
            raise UnreadableError("is not a regular file", "name a file that holds text")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", "check that it is there and readable") from None
    packing = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else ""
    suffix = suffixes[-1] if suffixes else ""
    try:
        if packing == ".gz":
            data = gzip.decompress(data)
        elif packing == ".zst":
            data = _unpack_zstandard(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(f"is not a whole {packing} file ({error})", "make or download it again") from None
    return data, suffix


def _unpack_zstandard(data: bytes) -> bytes:
    """Return all frames of a .zst file. The reader of the library takes a cut-off frame for the end; here it is an
    error.
    """
    import zstandard

    out: list[bytes] = []
    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    frame = unpacker.decompressobj()
    try:
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            while chunk:
                if frame.eof:
                    frame = unpacker.decompressobj()
                out.append(frame.decompress(chunk))
                chunk = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if data and not frame.eof:
        raise EOFError("it ends too early")
    return b"".join(out)


def json_lines(text: str, name: str, field: str, decoding: Decoding, first_line: int = 1) -> Iterator[Record]:
    """Yield the records of some lines of JSON, `first_line` being the number of the first.

    Raises:
        UnreadableError: a line that is no JSON object, or has no such field or no text in it.
    """
    for number, line in enumerate(text.split("\n"), start=first_line):  # not splitlines: JSON strings may hold U+2028
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"is not JSON in line {number} ({error})", "mend or remove that line") from None
        if not isinstance(record, dict):
            raise UnreadableError(f"has no record in line {number}", "give one JSON object per line")
        if field not in record:
            raise missing("field", field, list(record), f" in line {number}")
        value = record[field]
        if not isinstance(value, str | None):
            raise UnreadableError(
                f"has no text in field {field} of line {number} but {json.dumps(value)[:40]}",
                "name the field that holds the text with --text-field",
            )
        yield Record(f"{name}:{number}", decoding.clean(value or "", f"{name}:{number}"))


def _table(text: str, name: str, field: str, suffix: str) -> Iterator[Record]:
    try:
        rows = _rows(text, csv.excel_tab if suffix == ".tsv" else csv.excel)
    except UnreadableError:
        if suffix != ".tsv":
            raise
        rows = _rows(text, PlainTabs)
    header = rows[0] if rows else []
    if field not in header:
        raise missing("column", field, header)
    column = header.index(field)
    for number, row in enumerate(rows[1:], start=1):
        yield Record(f"{name}:{number}", row[column] if column < len(row) else "")


class PlainTabs(csv.excel_tab):
    """Tabs and lines and nothing else, as the registered type defines it: half of the world quotes, half does not."""

    quoting = csv.QUOTE_NONE


def _rows(text: str, dialect: type[csv.Dialect]) -> list[list[str]]:
    """Return the rows that are not blank. Strict, because a quote that is never closed would swallow the rest of the
    file.
    """
    reader = csv.reader(io.StringIO(text, newline=""), dialect, strict=True)
    try:
        with huge_fields():
            return [row for row in reader if row]
    except csv.Error as error:
        raise UnreadableError(
            f"is not a proper table in line {reader.line_num} ({error})",
            "close every quoted field and double the quotes inside it",
        ) from None


@contextlib.contextmanager
def huge_fields(limit: int = LARGEST_FIELD) -> Iterator[None]:
    """Lift the csv module's limit on a field's length, which belongs to the whole process, and put it back."""
    with _csv_limit:
        before = csv.field_size_limit(limit)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _parquet(data: bytes, name: str, field: str, decoding: Decoding) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data))
        kind = check_text_column(table.schema_arrow, field)
        number = 0
        for batch in table.iter_batches(columns=[field]):
            # As bytes, because a parquet file may call a column text that is not UTF-8.
            for value in pc.cast(pc.cast(batch.column(0), kind), pa.large_binary()):
                number += 1
                yield Record(f"{name}:{number}", decoding.decode(value.as_py() or b"", f"{name}:{number}"))
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise UnreadableError(f"is not a whole .parquet file ({first_line})", "make or download it again") from None


def check_text_column(schema: Any, field: str) -> Any:
    """Return the pyarrow type of a column's values.

    Raises:
        UnreadableError: there is no such column, or it holds no text.
    """
    import pyarrow as pa

    if field not in schema.names:
        raise missing("column", field, schema.names)
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(check(kind) for check in checks):
        remedy = "name the column that holds the text with --text-field"
        raise UnreadableError(f"has no text in column {field} but {kind}", remedy)
    return kind


def missing(noun: str, field: str, there: Sequence[str], where: str = "") -> UnreadableError:
    """Return what to say of a field or column that is not there."""
    names = ", ".join(there[:NAMES_SHOWN]) or "none"
    more = f" and {len(there) - NAMES_SHOWN:,} more" if len(there) > NAMES_SHOWN else ""
    remedy = f"name the {noun} that holds the text with --text-field"
    return UnreadableError(f"has no {noun} {field}{where}, only {names}{more}", remedy)
