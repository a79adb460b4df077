"""One file becomes texts, in blocks: unpack, decode, and take apart by the format that its name tells.

    mail.jsonl.gz --gunzip--> bytes --UTF-8--> text --a line each--> texts

.gz and .zst are unpacked first; .jsonl and .ndjson give a text per line, .csv and .tsv one per row, .parquet one per
row of a column, .json one per record where it is a list of them; every other file is one text. A file may be larger
than memory: it is read in blocks of some megabytes, and one of lines or of row groups also in ranges. Read at once
(ALL), its faults are known before its first text.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

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
    several,
)
from lightwell.text.json_file import LARGEST, Records, records_of, whole_number
from lightwell.text.parquet import read_groups
from lightwell.text.tables import DIALECTS, LARGEST_FIELD, PlainTabs, Row, cell, rows_of
from lightwell.text.unpacking import ALL, BLOCK, LARGEST_LINE, gathered, read_blocks, suffix_of, whole_lines

RECORDS = 1024
"""Records of a .json file that are handed on at a time."""


class Block(NamedTuple):
    """Some texts of a file, empty ones among them."""

    texts: list[str]
    numbers: Sequence[int] | None
    """The lines or rows that they come from, counted from 1 where reading began; None where the file is one text."""


class FileReader:
    """Reads the texts of a file, or of a range of it.

    Args:
        path: the file.
        name: how sentences call it; a text that is one of many is called "name:number".
        field: the field of JSON or the column of a table that holds the text.
        start, end: the range: bytes of a file that is not packed, or row groups of a .parquet file.
        at_once: bytes that are read at a time, about; ALL for the whole file.
        strict: whether a line of JSON that is no record is an error; else it alone is left out, as long as another is
            one.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        field: str,
        start: int = 0,
        end: int | None = None,
        at_once: int = ALL,
        *,
        strict: bool = True,
    ) -> None:
        self.path, self.name, self.field, self.strict = path, name, field, strict
        self.start, self.end, self.at_once = start, end, at_once
        self.suffix, self.packing = suffix_of(path)
        self._begin()

    def _begin(self) -> None:
        self._decoding = Decoding()
        self._halves = Decoding()  # of characters that JSON spelt in halves
        self._wrong: UnreadableError | None = None  # the first line of JSON that was left out
        self.wrong_lines = 0
        self._position = self.start  # of the next byte that is decoded, in the unpacked file
        self._characters = 0

    @cached_property
    def has_records(self) -> bool:
        """Return whether the file holds texts one by one, and is not one text.

        Raises:
            UnreadableError: as `texts`, where the file must be read to know.
        """
        if self.suffix == ".json":
            return self._json_file is not None
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
        if self.suffix == ".json" and self._json_file is not None:
            return self._json_records(self._json_file)
        return self._plain()

    def undecodable(self) -> list[Undecodable]:
        """Return what was not UTF-8 in the texts read so far, and what was half a character; nothing where all was."""
        found = ((self._decoding, False), (self._halves, True))
        return [
            Undecodable(decoding.first_source, decoding.count, decoding.first_offset, halves)
            for decoding, halves in found
            if decoding.count
        ]

    def remarks(self) -> list[str]:
        """Return sentences about what was read so far: records that were left out, and the key that they were under."""
        sentences = []
        if self.wrong_lines:
            assert self._wrong is not None
            left_out = f"{self.wrong_lines:,} records are" if self.wrong_lines > 1 else "1 record is"
            sentences.append(f"{self.name} {self._wrong.reason}; {left_out} left out.")
        if self.suffix == ".json" and (records := self.__dict__.get("_json_file")) and records.key is not None:
            sentences.append(f"The records of {self.name} are those under its key {records.key}.")
        return sentences

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
        self._count(len(text), before)
        return text

    def _count(self, characters: int, before: int) -> None:
        """Count what was decoded in addition, when so many sequences had been undecodable `before`.

        Raises:
            UnreadableError: hardly anything of the text so far, or of these characters, is UTF-8.
        """
        self._characters += characters
        # Of these characters, too: megabytes of good text before them make no text of them.
        if self._decoding.count > MOST_UNDECODABLE * self._characters or (
            characters >= BLOCK // 4 and self._decoding.count - before > MOST_UNDECODABLE * characters
        ):
            remedy = "name a text, or convert it to UTF-8"
            raise UnreadableError("is binary or in another encoding than UTF-8", remedy)

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
        number, before = 1, 0
        for texts in read_groups(content, self.name, self.field, groups, self._decoding, self.at_once):
            self._count(sum(map(len, texts)), before)
            before = self._decoding.count
            yield Block(texts, range(number, number + len(texts)))
            number += len(texts)

    def _json(self) -> Iterator[Block]:
        usual = _field_decoder(self.field)
        lines_read, some = 0, False
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
                    try:
                        value = self._json_record(decoded, number)
                    except UnreadableError as wrong:
                        self._leave_out(wrong)
                        continue
                texts.append(value)
                numbers.append(number)
            lines_read += len(lines)
            some = some or bool(texts)
            yield Block(texts, numbers)
        if self._wrong is not None and not some:
            raise self._wrong

    def _leave_out(self, wrong: UnreadableError) -> None:
        """Count a line that is left out, where that is allowed."""
        if self.strict:
            raise wrong from None
        self._wrong = self._wrong or wrong
        self.wrong_lines += 1

    def _json_record(self, line: str, number: int) -> str:
        """Return the text of a line, with a sentence for what is wrong with it."""
        number += self._lines_before
        try:
            record = json.loads(line, parse_int=whole_number)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"is not JSON in line {number} ({error})", "mend or remove that line") from None
        if not isinstance(record, dict):
            raise UnreadableError(f"has no record in line {number}", "give one JSON object per line")
        return self._field_of(record, f"line {number}", f"{self.name}:{number}")

    def _field_of(self, record: dict[str, Any], where: str, source: str) -> str:
        """Return the text of a record, with a sentence for what is wrong with it."""
        if self.field not in record:
            raise missing("field", self.field, list(record), f" in {where}")
        value = record[self.field]
        if not isinstance(value, str | None):
            raise UnreadableError(
                f"has no text in field {self.field} of {where} but {json.dumps(value)[:40]}",
                "name the field that holds the text with --text-field",
            )
        return self._halves.clean(value or "", source)

    @cached_property
    def _json_file(self) -> Records | None:
        """The records of a .json file; None where it has none, and is one text."""
        data = bytearray()
        for block in self.blocks():
            data += block
            if not data.lstrip().startswith((b"[", b"{")):
                return None
            if len(data) > LARGEST:
                raise UnreadableError(
                    f"is a .json file of more than {LARGEST >> 30} GiB",
                    "make a .jsonl of it, with a record in each line",
                )
        return records_of(data.decode(errors="replace"))

    def _json_records(self, records: Records) -> Iterator[Block]:
        """Yield the texts of a .json file that holds records."""
        self.decode(b"".join(self.blocks()))  # which counts what is not UTF-8
        texts, numbers = [], []
        for number, record in enumerate(records.objects, 1):
            try:
                texts.append(self._field_of(record, f"record {number}", f"{self.name}:{number}"))
                numbers.append(number)
            except UnreadableError as wrong:
                self._leave_out(wrong)
        if self._wrong is not None and not texts:
            raise self._wrong
        for start in range(0, len(texts), RECORDS):
            yield Block(texts[start : start + RECORDS], numbers[start : start + RECORDS])

    @cached_property
    def _lines_before(self) -> int:
        """Lines of the file before the range; asked for only where a sentence names a line."""
        return sum(block.count(b"\n") for block in read_blocks(self.path, "", 0, self.start)) if self.start else 0

    def _table(self) -> Iterator[Block]:
        rows = self._rows_of_csv() if self.suffix == ".csv" else self._rows_between_tabs()
        _, header = next(rows, (0, []))
        if self.field not in header:
            for _ in rows if self.at_once == ALL else ():  # a table that is no proper one says so first
                pass
            raise missing("column", self.field, header)
        if (count := header.count(self.field)) > 1:
            raise several(self.field, count)
        column = header.index(self.field)
        number = 1
        for texts in gathered((cell(row, column, line, header) for line, row in rows), self.at_once):
            yield Block(texts, range(number, number + len(texts)))
            number += len(texts)

    def _rows_of_csv(self) -> Iterator[Row]:
        """Yield the rows of a .csv, whichever sign is between its fields: the header tells."""
        for dialect in DIALECTS:
            with contextlib.suppress(UnreadableError):
                if self.field in next(self._rows(dialect), (0, []))[1]:
                    return self._rows(dialect)
        first = next(self._rows(csv.excel), (0, []))[1]
        if len(first) == 1:  # the names of the columns are better told apart
            for dialect in DIALECTS[1:]:
                if len(next(self._rows(dialect), (0, []))[1]) > 1:
                    return self._rows(dialect)
        return self._rows(csv.excel)

    def _rows_between_tabs(self) -> Iterator[Row]:
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

    def _rows(self, dialect: type[csv.Dialect]) -> Iterator[Row]:
        lines = itertools.chain.from_iterable(io.StringIO(self.decode(block), newline="") for block in self._lines())
        return rows_of(lines, dialect, LARGEST_FIELD if self.at_once == ALL else LARGEST_LINE)


def _field_decoder(name: str) -> Callable[[bytes], str]:
    """Return a function that gives the field `name` of a line of JSON, and raises where the line is not a usual one."""
    # Renamed, because a field of JSON may have a name that no attribute can have.
    record = msgspec.defstruct("Record", [("text", str | None)], rename={"text": name})
    decoder = msgspec.json.Decoder(record)
    return lambda line: decoder.decode(line).text or ""  # type: ignore[attr-defined]
