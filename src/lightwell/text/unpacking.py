"""The bytes of a file in blocks of bounded size, unpacked where it is a .gz or .zst, whatever the size of the file."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from lightwell.text.decoding import UnreadableError

BLOCK = 2 << 20
"""Bytes in a block: enough that Python's work for one is nothing, few enough to stay in the CPU's cache."""
ALL = sys.maxsize
"""The size of a block that holds all of a file."""
PACKED_AT_ONCE = 1 << 16
"""Packed bytes that are unpacked at a time; text is seldom packed to less than a hundredth."""
LARGEST_WINDOW = 1 << 31
"""Bytes that a .zst frame may look back, which take as much memory where a frame says that it does; large corpora are
packed with zstd --long=31, above the library's limit."""
LARGEST_WINDOW_IN_BLOCKS = 1 << 27
"""Bytes that it may look back where a file is read in blocks, so that memory stays bounded."""
LARGEST_LINE = 64 << 20
"""Bytes of a line that is read in blocks; all of it must be in memory."""

Piece = TypeVar("Piece", str, bytes)


def suffix_of(path: Path) -> tuple[str, str]:
    """Return what tells the format, e.g. ".jsonl" of mail.jsonl.gz, and how it is packed: ".gz", ".zst" or ""."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in (".gz", ".zst") else ""
    return (suffixes[-1] if suffixes else ""), packing


def read_blocks(
    path: Path, packing: str, start: int = 0, end: int | None = None, at_once: int = BLOCK
) -> Iterator[bytes]:
    """Yield the uncompressed bytes in blocks of about `at_once`; `start` and `end` cut a range out of a file without
    packing.

    Raises:
        UnreadableError: the file is damaged or cannot be read.
    """
    try:
        with path.open("rb") as file:
            if packing == ".gz":
                with gzip.open(file) as unpacked:
                    yield from _to_the_end(unpacked, at_once)
            elif packing == ".zst":
                largest_window = LARGEST_WINDOW if at_once == ALL else LARGEST_WINDOW_IN_BLOCKS
                pieces = _unpack_zstandard(file, largest_window)
                yield from map(b"".join, gathered(filter(None, pieces), at_once))
            else:
                file.seek(start)
                yield from _to_the_end(file, at_once) if end is None else _range(file, end - start, at_once)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"is not a whole {packing} file ({error})", "make or download it again") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})", "check that it is there and readable") from None


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in blocks that end where a line ends; only the last may end otherwise.

    Raises:
        UnreadableError: a line is too long to be kept in memory.
    """
    begun: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*begun, block[:end]])
            begun = []
        begun.append(block[end:])
        if sum(map(len, begun)) > LARGEST_LINE:
            raise UnreadableError(f"has a line of more than {LARGEST_LINE >> 20} MiB", "break or remove that line")
    if rest := b"".join(begun):
        yield rest


def gathered(pieces: Iterable[Piece], least: int) -> Iterator[list[Piece]]:
    """Yield the pieces in lists that hold at least so many characters, or bytes, together (but the last)."""
    some: list[Piece] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= least:
            yield some
            some, size = [], 0
    if some:
        yield some


def _to_the_end(file: IO[bytes] | gzip.GzipFile, at_once: int) -> Iterator[bytes]:
    return iter(lambda: file.read(-1 if at_once == ALL else at_once), b"")


def _range(file: BinaryIO, left: int, at_once: int) -> Iterator[bytes]:
    while block := file.read(min(at_once, left)):
        yield block
        left -= len(block)


def _unpack_zstandard(file: BinaryIO, largest_window: int) -> Iterator[bytes]:
    """Yield all frames. The reader of the library takes a cut-off frame for the end; here it is an error."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=largest_window)
    frame = unpacker.decompressobj()
    some = False
    try:
        while chunk := file.read(PACKED_AT_ONCE):
            some = True
            while chunk:
                if frame.eof:
                    frame = unpacker.decompressobj()
                yield frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if some and not frame.eof:
        raise EOFError("it ends too early")
