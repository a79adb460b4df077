"""A safetensors file written and hashed in one go, past the system's page cache where it can be.

`safetensors.torch.save_file` copies every tensor, and the hash then has to read the file again; both take CPU
time from training (docs/reliability.md has the figures, docs/decisions.md the reasons). Files are read by safetensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CHUNK = 4 << 20
"""Bytes that are gathered, hashed and written at a time."""
BLOCK = 4096
"""What the sizes of writes past the page cache must be multiples of."""
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As https://github.com/safetensors/safetensors#format names them."""

DIRECT = getattr(os, "O_DIRECT", 0)
"""Past the page cache; macOS and Windows have nothing of the kind."""
NOT_DIRECT = {errno.EINVAL, errno.EOPNOTSUPP}
"""What a file system says to a direct write that it does not do so."""

Bytes = npt.NDArray[np.uint8]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors that are on the CPU, synced to the disk; returns the SHA-256 of the file.

    Raises:
        OSError: the disk is full, or another failure of the file system.
    """
    size = 0
    hasher = hashlib.sha256()
    with mmap.mmap(-1, CHUNK) as memory:  # begins at a page, as writing past the cache demands
        descriptor = _opened(path)
        try:
            for filled in _gathered(_pieces(tensors), memory):
                padded = -(-filled // BLOCK) * BLOCK
                with memoryview(memory) as chunk, chunk[:filled] as content, chunk[:padded] as blocks:
                    hasher.update(content)
                    _write(descriptor, blocks)
                size += filled
            os.ftruncate(descriptor, size)  # the last block was written in full
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return hasher.hexdigest()


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[Bytes]:
    """Yield the file's content: the header's length and the header, which is JSON, then the tensors.

    The widest numbers come first, so that each tensor begins at a multiple of its width.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield np.frombuffer(len(text).to_bytes(8, "little") + text, np.uint8)
    for _, tensor in ordered:
        yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def _gathered(pieces: Iterator[Bytes], memory: mmap.mmap) -> Iterator[int]:
    """Copy the pieces into `memory`, one chunk after the other; yields how much of it is filled, each time it is."""
    buffer: Bytes = np.frombuffer(memory, np.uint8)
    filled = 0
    try:
        for piece in pieces:
            taken = 0
            while taken < len(piece):
                part = piece[taken : taken + len(buffer) - filled]
                buffer[filled : filled + len(part)] = part
                taken, filled = taken + len(part), filled + len(part)
                if filled == len(buffer):
                    yield filled
                    filled = 0
        if filled:
            yield filled
    finally:
        del buffer  # the memory is about to be closed


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags | DIRECT, 0o666)
    except OSError as error:
        if error.errno not in NOT_DIRECT:
            raise
        return os.open(path, flags, 0o666)  # a file system that knows no other way than through the cache


def _write(descriptor: int, view: memoryview) -> None:
    """Write all of it; every slice is given back, or the memory could not be closed after an error."""
    done = 0
    while done < len(view):
        with view[done:] as rest:
            try:
                written = os.write(descriptor, rest)
            except OSError as error:
                if error.errno not in NOT_DIRECT or not _through_the_cache(descriptor):
                    raise
                continue
        done += written
        if done % BLOCK:  # what is left begins where no direct write may
            _through_the_cache(descriptor)


def _through_the_cache(descriptor: int) -> bool:
    """Let what follows go through the page cache; False where it already did."""
    if not DIRECT:
        return False
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not flags & DIRECT:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~DIRECT)
    return True
