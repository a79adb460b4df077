"""Files and folders that are in their place whole or not at all, whatever stops the writer.

    write_file(path, data)                       written beside, synced, renamed, and the folder's list of names synced
    replace_folder(beside, path, aside)          likewise for a folder whose files have been written and synced
    restore_folder(path, aside)                  puts an old folder back whose replacement was stopped halfway

A rename may reach the disk before the content that it names, and a machine that stops in between leaves an empty file
under the right name. So the content is synced before the rename, and the folder's list of names after it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"
"""End of the name of a file that is being written; the number of the process that writes it stands before."""


def write_file(path: Path, data: Any) -> None:
    """Put a file in its place, or in that of an older one. It is on the disk itself when this returns.

    data: bytes, or anything else that has a buffer. Several processes may write the same file; one of them is last.

    Raises:
        OSError: the disk is full, or another failure of the file system; an older file is as it was, unless the new
            one is there already and only the folder could not be synced.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def replace_folder(beside: Path, path: Path, aside: Path) -> None:
    """Rename the finished folder `beside` to `path`. An older one there waits as `aside` until the new one stands.

    Raises:
        OSError: a failure of the file system; an older folder is where it was, unless the new one stands already.
    """
    sync(beside)
    try:
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        beside.rename(path)
    except BaseException:
        restore_folder(path, aside)
        raise
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def restore_folder(path: Path, aside: Path) -> None:
    """Put the old folder back where a replacement was stopped between its two renames.

    Raises:
        OSError: it cannot be renamed.
    """
    if aside.exists() and not path.exists():
        aside.rename(path)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk itself.

    Raises:
        OSError: the disk is full, or another failure of the file system.
    """
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and orders its renames by itself
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
