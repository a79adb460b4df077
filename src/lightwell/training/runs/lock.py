"""One process at a time on one run; a second would tear its records apart."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightwell.errors import RunError

LOCK = ".lock"


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the run's lock. The system releases it when the process ends, however it ends, so that none is ever stale.

    Raises:
        RunError: another process is training this run, or the folder cannot be written.
    """
    try:
        file = (run / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"The run {run} cannot be written ({error.strerror}).") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise RunError(f"The run {run} is being trained by {owner}; wait for it, or stop it first.") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
