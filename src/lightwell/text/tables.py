"""The rows of .csv and .tsv tables, whatever stands between their fields, each with the number of its last line."""

from __future__ import annotations

import contextlib
import csv
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from lightwell.text.decoding import UnreadableError

Row: TypeAlias = tuple[int, list[str]]
"""The number of a row's last line, and its fields."""
ROWS = 64
"""Rows of a table that are read at a time; a row may be large."""
LARGEST_FIELD = min(sys.maxsize, 2**31 - 1)
"""Characters in a .csv field; the csv module's own limit is 131,072, and its highest is that of a C long."""

_csv_limit = threading.Lock()


class Semicolons(csv.excel):
    """What spreadsheets write where the comma is in numbers."""

    delimiter = ";"


class Bars(csv.excel):
    """Fields between bars."""

    delimiter = "|"


DIALECTS: tuple[type[csv.Dialect], ...] = (csv.excel, Semicolons, csv.excel_tab, Bars)
"""What a .csv may be written in: the first whose header has the wanted column is taken."""


class PlainTabs(csv.excel_tab):
    """Tabs and lines and nothing else, as the registered type defines it: half of the world quotes, half does not."""

    quoting = csv.QUOTE_NONE


def rows_of(lines: Iterable[str], dialect: type[csv.Dialect], largest: int) -> Iterator[Row]:
    """Yield the rows that are not blank; `largest`: characters that a field may have.

    Strict, because a quote that is never closed would swallow the rest of the file.

    Raises:
        UnreadableError: the lines are no proper table.
    """
    reader = csv.reader(lines, dialect, strict=True)
    while True:
        try:
            # Not held across a yield: the limit belongs to the whole process.
            with huge_fields(largest):
                rows = [(reader.line_num, row) for row in itertools.islice(reader, ROWS)]
        except csv.Error as error:
            raise UnreadableError(
                f"is not a proper table in line {reader.line_num} ({error})",
                "close every quoted field and double the quotes inside it",
            ) from None
        if not rows:
            return
        yield from ((line, row) for line, row in rows if row)


def cell(row: list[str], column: int, line: int, header: list[str]) -> str:
    """Return a row's text; none where the row ends before it.

    Raises:
        UnreadableError: the row has more fields than there are columns, so that a text was cut at a separator in it.
    """
    if any(row[len(header) :]):
        raise UnreadableError(
            f"has {len(row)} fields in line {line}, but {len(header)} column{'s' if len(header) > 1 else ''}",
            "quote the texts that hold the separator, or name every column",
        )
    return row[column] if column < len(row) else ""


@contextlib.contextmanager
def huge_fields(limit: int) -> Iterator[None]:
    """Lift the csv module's limit on a field's length, which belongs to the whole process, and put it back."""
    with _csv_limit:
        before = csv.field_size_limit(limit)
        try:
            yield
        finally:
            csv.field_size_limit(before)
