"""Standard output and error: results that cannot be written are a sentence, and progress is no reason to fail.

A disk that is full under `> results.txt` must not look like a fault of Lightwell, and one that is full under
`2> log.txt` must not end a training.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

from lightwell.errors import LightwellError


class OutputError(LightwellError):
    """What a command has found could not be written."""


class _Stream:
    """A text stream that does something of its own where the system refuses to write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, and return the number of characters."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self.refused(error)
            return len(text)

    def flush(self) -> None:
        """Write what is still in memory."""
        try:
            self._stream.flush()
        except OSError as error:
            self.refused(error)

    def refused(self, error: OSError) -> None:
        """Decide what becomes of a refusal; nothing."""


class _Results(_Stream):
    def refused(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        # What is still in memory must not fail again when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        raise OutputError(f"The output cannot be written ({error.strerror or error}); send it to another place.")


def prepare_streams() -> None:
    """Let standard output and error of this process write any character, and fail as this module says."""
    for name, kind in (("stdout", _Results), ("stderr", _Stream)):
        stream = getattr(sys, name) or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed by `>&-`
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # models write any character; a terminal may not know all of them
        setattr(sys, name, cast("TextIO", kind(stream)))
