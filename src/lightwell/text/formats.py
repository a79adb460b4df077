"""One file becomes texts, in blocks: unpack, decode, and take apart by the format that its name tells.

    mail.jsonl.gz --gunzip--> bytes --UTF-8--> text --a line each--> texts

.gz and .zst are unpacked first; .jsonl and .ndjson give a text per line, .csv and .tsv one per row, .parquet one per
row of a column; every other file is one text. A file may be larger than memory: it is read in blocks of some megabytes,
and one of lines or of row groups also in ranges. Read at once (ALL), its faults are known before its first text.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from lightwell.text.decoding import (
    BYTE_ORDER_MARK,
    MOST_UNDECODABLE,
    Decoding,
    Undecodable,
    UnreadableError,
    empty_file,
    missing,
    refuse_binary,
)
from lightwell.text.parquet import read_groups
from lightwell.text.unpacking import ALL, BLOCK, LARGEST_LINE, gathered, read_blocks, suffix_of, whole_lines

ROWS = 64
"""Rows of a table that are read at a time; a row may be large."""
LARGEST_FIELD = min(sys.maxsize, 2**31 - 1)
"""Characters in a .csv field; the csv module's own limit is 131,072, and its highest is that of a C long."""

_csv_limit = threading.Lock()


class Block(NamedTuple):
    """Some texts of a file, empty ones among them."""

    texts: list[str]
    numbers: Sequence[int] | None
    """The lines or rows that they come from, counted from 1 where reading began; None where the file is one text."""


class PlainTabs(csv.excel_tab):
    """Tabs and lines and nothing else, as the registered type defines it: half of the world quotes, half does not."""

    quoting = csv.QUOTE_NONE


class FileReader:
    """Reads the texts of a file, or of a range of it.

    Args:
        path: the file.
        name: how sentences call it; a text that is one of many is called "name:number".
        field: the field of JSON or the column of a table that holds the text.
        start, end: the range: bytes of a file that is not packed, or row groups of a .parquet file.
        at_once: bytes that are read at a time, about; ALL for the whole file.
    """

    def __init__(
        self, path: Path, name: str, field: str, start: int = 0, end: int | None = None, at_once: int = ALL
    ) -> None:
        self.path, self.name, self.field = path, name, field
        self.start, self.end, self.at_once = start, end, at_once
        self.suffix, self.packing = suffix_of(path)
        self._begin()

    def _begin(self) -> None:
        self._decoding = Decoding()
        self._halves = Decoding()  # of characters that JSON spelt in halves
        self._position = self.start  # of the next byte that is decoded, in the unpacked file
        self._characters = 0

    @property
    def has_records(self) -> bool:
        """Return whether the file holds texts one by one, and is not one text."""
        return self.suffix in (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

    def texts(self) -> Iterator[Block]:
        """Yield all texts in blocks.

        Raises:
            UnreadableError: the file is empty, binary, damaged, not readable, or has no such field or column.
        """
        if self.suffix == ".parquet":
            return self._parquet()
        if self.suffix in (".jsonl", ".ndjson"):
            return self._json()
        if self.suffix in (".csv", ".tsv"):
            return self._table()
        return self._plain()

    def undecodable(self) -> Undecodable | None:
        """Return what was not UTF-8 in the texts read so far; None where all of it was."""
        count = self._decoding.count + self._halves.count
        first = self._decoding if self._decoding.count else self._halves
        return Undecodable(first.first_source, count, first.first_offset) if count else None

    def blocks(self) -> Iterator[bytes]:
        """Yield the unpacked bytes without a byte order mark, to be given to `decode` in this order.

        Raises:
            UnreadableError: the file is empty, binary, damaged or not readable.
        """
        self._begin()
        self._refuse_special()
        blocks = read_blocks(self.path, self.packing, self.start, self.end, self.at_once)
        first = next(blocks, b"")
        while 0 < len(first) < len(BYTE_ORDER_MARK) and (more := next(blocks, b"")):
            first += more
        if not (first or self.start):
            raise empty_file()
        refuse_binary(first, first=not self.start)
        if not self.start and first.startswith(BYTE_ORDER_MARK):
            first = first[len(BYTE_ORDER_MARK) :]
            self._position += len(BYTE_ORDER_MARK)
            self._characters += 1
        if first:
            yield first
        for block in blocks:
            refuse_binary(block, first=False)
            yield block

    def decode(self, data: bytes) -> str:
        """Return the bytes that follow those decoded before as text.

        Raises:
            UnreadableError: hardly anything of the text so far is UTF-8.
        """
        before = self._decoding.count
        text = self._decoding.decode(data, self.name, self._position)
        self._position += len(data)
        self._characters += len(text)
        # Of this block, too: megabytes of good text before it make no text of it.
        if self._decoding.count > MOST_UNDECODABLE * self._characters or (
            len(text) >= BLOCK // 4 and self._decoding.count - before > MOST_UNDECODABLE * len(text)
        ):
            remedy = "name a text, or convert it to UTF-8"
            raise UnreadableError("is binary or in another encoding than UTF-8", remedy)
        return text

    def _refuse_special(self) -> None:
        """Raise where it is no regular file: reading a pipe or a device might never end."""
        try:
            mode = self.path.stat().st_mode
        except OSError as error:
            raise UnreadableError(f"cannot be read ({error.strerror})", "check that it is there and readable") from None
        if not stat.S_ISREG(mode):
            raise UnreadableError("is not a regular file", "name a file that holds text")

    def _plain(self) -> Iterator[Block]:
        yield Block([self.decode(b"".join(self.blocks()))], None)

    def _lines(self) -> Iterator[bytes]:
        """Yield the bytes in blocks that end where a line ends."""
        return self.blocks() if self.at_once == ALL else whole_lines(self.blocks())

    def _parquet(self) -> Iterator[Block]:
        self._refuse_special()
        if self.packing or self.end is None:
            content: Path | bytes = b"".join(read_blocks(self.path, self.packing, at_once=self.at_once))
            if not content:
                raise empty_file()
        else:
            content = self.path
        groups = None if self.end is None else range(self.start, self.end)
        number = 1
        for texts in read_groups(content, self.name, self.field, groups, self._decoding, self.at_once):
            yield Block(texts, range(number, number + len(texts)))
            number += len(texts)

    def _json(self) -> Iterator[Block]:
        usual = _field_decoder(self.field)
        lines_read = 0
        for block in self._lines():
            before = self._decoding.count
            text = self.decode(block)
            lines = (block if self._decoding.count == before else text.encode()).split(b"\n")
            del text
            if not lines[-1]:
                lines.pop()
            texts, numbers = [], []
            for number, line in enumerate(lines, lines_read + 1):
                try:
                    value = usual(line)
                except (msgspec.DecodeError, RecursionError):  # a blank line, or something unusual, or wrong
                    if not line or line.isspace() or not (decoded := line.decode()).strip():
                        continue
                    value = self._json_record(decoded, number)
                texts.append(value)
                numbers.append(number)
            lines_read += len(lines)
            yield Block(texts, numbers)

    def _json_record(self, line: str, number: int) -> str:
        """Return the text of a line, with a sentence for what is wrong with it."""
        number += self._lines_before
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"is not JSON in line {number} ({error})", "mend or remove that line") from None
        if not isinstance(record, dict):
            raise UnreadableError(f"has no record in line {number}", "give one JSON object per line")
        if self.field not in record:
            raise missing("field", self.field, list(record), f" in line {number}")
        value = record[self.field]
        if not isinstance(value, str | None):
            raise UnreadableError(
                f"has no text in field {self.field} of line {number} but {json.dumps(value)[:40]}",
                "name the field that holds the text with --text-field",
            )
        return self._halves.clean(value or "", f"{self.name}:{number}")

    @cached_property
    def _lines_before(self) -> int:
        """Lines of the file before the range; asked for only where a sentence names a line."""
        return sum(block.count(b"\n") for block in read_blocks(self.path, "", 0, self.start)) if self.start else 0

    def _table(self) -> Iterator[Block]:
        rows = self._rows(csv.excel) if self.suffix == ".csv" else self._rows_between_tabs()
        header = next(rows, [])
        if self.field not in header:
            for _ in rows if self.at_once == ALL else ():  # a table that is no proper one says so first
                pass
            raise missing("column", self.field, header)
        column = header.index(self.field)
        number = 1
        for texts in gathered((row[column] if column < len(row) else "" for row in rows), self.at_once):
            yield Block(texts, range(number, number + len(texts)))
            number += len(texts)

    def _rows_between_tabs(self) -> Iterator[list[str]]:
        """Yield the rows of a .tsv. Half of the world quotes in it, half does not; the whole file tells."""
        quoted = self._rows(csv.excel_tab)
        try:
            if self.at_once == ALL:
                return iter(list(quoted))
            for _ in quoted:
                pass
        except UnreadableError:
            return self._rows(PlainTabs)
        return self._rows(csv.excel_tab)

    def _rows(self, dialect: type[csv.Dialect]) -> Iterator[list[str]]:
        """Yield the rows that are not blank. Strict, because a quote that is never closed would swallow the rest of the
        file.
        """
        lines = itertools.chain.from_iterable(io.StringIO(self.decode(block), newline="") for block in self._lines())
        reader = csv.reader(lines, dialect, strict=True)
        while True:
            try:
                # Not held across a yield: the limit belongs to the whole process.
                with huge_fields(LARGEST_FIELD if self.at_once == ALL else LARGEST_LINE):
                    rows = list(itertools.islice(reader, ROWS))
            except csv.Error as error:
                raise UnreadableError(
                    f"is not a proper table in line {reader.line_num} ({error})",
                    "close every quoted field and double the quotes inside it",
                ) from None
            if not rows:
                return
            yield from (row for row in rows if row)


@contextlib.contextmanager
def huge_fields(limit: int) -> Iterator[None]:
    """Lift the csv module's limit on a field's length, which belongs to the whole process, and put it back."""
    with _csv_limit:
        before = csv.field_size_limit(limit)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _field_decoder(name: str) -> Callable[[bytes], str]:
    """Return a function that gives the field `name` of a line of JSON, and raises where the line is not a usual one."""
    # Renamed, because a field of JSON may have a name that no attribute can have.
    record = msgspec.defstruct("Record", [("text", str | None)], rename={"text": name})
    decoder = msgspec.json.Decoder(record)
    return lambda line: decoder.decode(line).text or ""  # type: ignore[attr-defined]
