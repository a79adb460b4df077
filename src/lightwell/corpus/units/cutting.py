"""The sources of a large corpus are cut into units of work: about 32 MB of text, each encoded by one process.

    big.jsonl  |----------|----------|----          ranges of bytes, cut at ends of lines
    a.txt b.txt c.txt  ...                          small files share a unit
    dump.jsonl.gz  |------------------------        what can only be read from its beginning is one range of any size
    table.parquet  |--------|--------|----          row groups

Where is cut depends on the files alone, and neither on the number of processes nor on what was done before. So each
unit gives the same tokens wherever and whenever it is encoded.
"""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeAlias

from lightwell.errors import TextError
from lightwell.text.decoding import UnreadableError, empty_file, refuse_binary
from lightwell.text.parquet import group_sizes
from lightwell.text.sources import Source, Sources
from lightwell.text.unpacking import suffix_of

UNIT_BYTES = 32 << 20
"""Bytes of text in a unit: enough that starting one costs nothing, few enough that a kill loses seconds."""
DOCUMENT_BYTES = 1 << 20
"""Bytes of a document where a plain file larger than a unit is taken as several."""
LINE_SEARCH = 1 << 16
"""Bytes after the wanted place of a cut in which an empty line, then any end of a line, is looked for; a quarter of the
piece where that is less."""
PACKING = 4
"""Bytes of text for each byte of a packed file, about: it decides only how many small ones share a unit."""
SNIFFED = 1 << 16
"""Bytes at the start of a large file that tell whether it is text."""

Kind: TypeAlias = Literal["file", "plain", "lines", "stream", "groups"]


@dataclass(frozen=True)
class FileRange:
    """A range of one file, from `start` up to `end`: bytes, or row groups of a .parquet file."""

    source: Source
    kind: Kind
    """A small plain file; plain text or lines out of a file; a stream, of which all is read; or row groups."""
    start: int
    end: int


@dataclass(frozen=True)
class Unit:
    """The ranges that one process encodes at a time."""

    number: int
    ranges: tuple[FileRange, ...]
    size: int
    """The bytes of text in it, about."""

    @property
    def name(self) -> str:
        """Return the number with five digits at least, so that units sort by name."""
        return f"{self.number:05}"


def cut_in_units(sources: Sources, unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """Return all units of the sources, in order; what cannot be read is added to `sources.skipped`.

    Raises:
        TextError: a file that the user named is missing, empty, binary or damaged.
    """
    units: list[Unit] = []
    ranges: list[FileRange] = []
    filled = 0
    for file_range, size in _ranges(sources, unit_bytes):
        if ranges and filled + size > unit_bytes:
            units.append(Unit(len(units), tuple(ranges), filled))
            ranges, filled = [], 0
        ranges.append(file_range)
        filled += size
    if ranges:
        units.append(Unit(len(units), tuple(ranges), filled))
    return units


def cut_text(data: bytes, size: int) -> Iterator[bytes]:
    """Yield a text in pieces of about `size` bytes or a little more, cut after an empty line or a line where one is
    near.
    """
    start, search = 0, _search(size)
    while len(data) - start > size + search:
        end = start + size + _cut_after(data[start + size : start + size + search])
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


def _ranges(sources: Sources, unit_bytes: int) -> Iterator[tuple[FileRange, int]]:
    """Yield every range with about the bytes of text that it holds."""
    for source in sources.files:
        try:
            yield from list(_ranges_of(source, unit_bytes))  # all or nothing of a file that turns out not to be text
        except UnreadableError as trouble:
            if source.named:
                raise TextError(f"{source.name} {trouble.reason}; {trouble.remedy}.") from None
            sources.skipped.append((source.name, trouble.reason))


def _ranges_of(source: Source, unit_bytes: int) -> Iterable[tuple[FileRange, int]]:
    suffix, packing = suffix_of(source.path)
    try:
        about = source.path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe or a device might never end
            raise UnreadableError("is not a regular file", "name a file that holds text")
        if not about.st_size:
            raise empty_file()
        if suffix == ".parquet":
            return _row_groups(source, packing, unit_bytes)
        if packing or suffix in (".csv", ".tsv", ".json"):
            return [(FileRange(source, "stream", 0, about.st_size), about.st_size * (PACKING if packing else 1))]
        kind: Kind = "lines" if suffix in (".jsonl", ".ndjson") else "plain"
        if about.st_size <= unit_bytes:
            return [(FileRange(source, kind if kind == "lines" else "file", 0, about.st_size), about.st_size)]
        with source.path.open("rb") as file:
            refuse_binary(file.read(SNIFFED), first=True)
            edges = list(_edges(file, about.st_size, unit_bytes, kind))
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", "check that it is there and readable") from None
    return [(FileRange(source, kind, start, end), end - start) for start, end in itertools.pairwise(edges)]


def _row_groups(source: Source, packing: str, unit_bytes: int) -> Iterator[tuple[FileRange, int]]:
    """Yield consecutive row groups that fill a unit; one alone may be larger."""
    if packing:
        raise UnreadableError(f"is a .parquet file packed as {packing}", "unpack it; .parquet files are packed inside")
    first, filled = 0, 0
    sizes = group_sizes(source.path)
    for group, size in enumerate(sizes):
        if filled and filled + size > unit_bytes:
            yield FileRange(source, "groups", first, group), filled
            first, filled = group, 0
        filled += size
    yield FileRange(source, "groups", first, len(sizes)), filled


def _edges(file: BinaryIO, size: int, unit_bytes: int, kind: Kind) -> Iterator[int]:
    """Yield where the ranges of a large file begin, and its end."""
    yield 0
    edge, search = 0, _search(unit_bytes)
    while size - edge > unit_bytes + search:
        edge += unit_bytes
        if kind == "lines":
            file.seek(edge - 1)  # a line may end exactly here
            edge += _to_end_of_line(file) - 1
        else:
            file.seek(edge)
            edge += _cut_after(file.read(search))
        if edge < size:
            yield edge
    yield size


def _to_end_of_line(file: BinaryIO) -> int:
    """Return how many bytes it is to the end of the line, read in pieces: a line may be long."""
    passed = 0
    while piece := file.readline(LINE_SEARCH):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def _cut_after(window: bytes) -> int:
    """Return how many bytes of the window still belong before the cut."""
    for mark in (b"\n\n", b"\n"):
        if (place := window.find(mark)) >= 0:
            return place + len(mark)
    return next((place for place, byte in enumerate(window) if byte & 0xC0 != 0x80), 0)  # 10xxxxxx is inside one


def _search(size: int) -> int:
    return min(LINE_SEARCH, max(4, size // 4))  # in 4 bytes of UTF-8 a character begins
