"""The bytes of a file in blocks of bounded size, unpacked where it is a .gz or .zst, whatever the size of the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lightwell.text.formats import UnreadableError
from lightwell.text.pieces import gathered

BLOCK = 2 << 20
"""Bytes in a block: enough that Python's work for one is nothing, few enough to stay in the processor's cache."""
PACKED_AT_ONCE = 1 << 16
"""Packed bytes that are unpacked at a time; text is seldom packed to less than a hundredth."""
LARGEST_WINDOW = 1 << 27
"""Bytes that a .zst frame may look back, which take as much memory; what zstd itself accepts without being told."""
LARGEST_LINE = 64 << 20
"""Bytes of a line, which must be in memory as a whole."""


def read_blocks(path: Path, packing: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the uncompressed bytes in blocks of about `BLOCK`; `start` and `end` cut a range out of a file without
    packing.

    Raises:
        UnreadableError: the file is damaged or cannot be read.
    """
    try:
        with path.open("rb") as file:
            if packing == ".gz":
                with gzip.open(file) as unpacked:
                    yield from iter(lambda: unpacked.read(BLOCK), b"")
            elif packing == ".zst":
                yield from map(b"".join, gathered(filter(None, _unpack_zstandard(file)), BLOCK))
            else:
                yield from _range(file, start, end)
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


def _range(file: BinaryIO, start: int, end: int | None) -> Iterator[bytes]:
    file.seek(start)
    left = end - start if end is not None else -1
    while block := file.read(BLOCK if left < 0 else min(BLOCK, left)):
        yield block
        left -= len(block) if left >= 0 else 0


def _unpack_zstandard(file: BinaryIO) -> Iterator[bytes]:
    """Yield all frames. The reader of the library takes a cut-off frame for the end; here it is an error."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    frame = unpacker.decompressobj()
    try:
        while chunk := file.read(PACKED_AT_ONCE):
            while chunk:
                if frame.eof:
                    frame = unpacker.decompressobj()
                yield frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
    if not frame.eof:
        raise EOFError("it ends too early")
