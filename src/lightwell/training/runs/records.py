"""Records on disk: one JSON object a line, whole lines only, whatever stops the writer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightwell import atomic
from lightwell.errors import RunError
from lightwell.plain_json import plain_json

MEASURED = ("loss", "grad_norm", "validation_loss", "validation_bits_per_byte", "perplexity")
"""The numbers of a record that may overflow."""


class Records:
    """A .jsonl file of records that each have a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return the records in the order of writing; a last line that was cut off is left out.

        Raises:
            RunError: a line that is not the last one is damaged; the sentence names it.
        """
        return [record for record, _ in self._lines()]

    def append(self, record: dict[str, Any]) -> None:
        """Add one line: all of it, or, when that fails, nothing.

        Raises:
            RunError: the disk is full, or another failure of the file system.
        """
        line = (plain_json(record, ensure_ascii=False) + "\n").encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    if file.write(line) < len(line):  # the disk took a part of it
                        raise OSError(0, "the disk is full")
                except OSError:
                    file.truncate(before)
                    raise
        except OSError as error:
            raise RunError(
                f"{self.path} could not be written ({error.strerror or error}); "
                "free some space or mend the disk, then resume the run."
            ) from None

    def truncate(self, step: int) -> None:
        """Drop the records after `step`, and a last line that was cut off.

        Raises:
            RunError: the file could not be written, and is as it was; or a line is damaged.
        """
        lines = self._lines()
        kept = b"".join(line for record, line in lines if record["step"] <= step)
        if not self.path.exists() or len(kept) == self.path.stat().st_size:
            return
        write_run_file(self.path, kept)

    def sync(self) -> None:
        """Wait until the records are on the disk itself.

        Raises:
            RunError: the disk is full, or another failure of the file system.
        """
        try:
            if self.path.exists():
                atomic.sync(self.path)
        except OSError as error:
            raise RunError(f"{self.path} could not be written ({error.strerror or error}).") from None

    def _lines(self) -> list[tuple[dict[str, Any], bytes]]:
        """Return each record with the line that holds it."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        found: list[tuple[dict[str, Any], bytes]] = []
        for number, line in enumerate(lines, 1):
            try:
                found.append((_read(line), line))
            except (ValueError, TypeError):
                # A crash of the machine may leave zeros at the end, with or without a line's end.
                if number == len(lines):
                    break
                raise RunError(f"Line {number} of {self.path} is damaged; remove it to go on.") from None
        return found


def _read(line: bytes) -> dict[str, Any]:
    """Return a record. What was measured and is null was not finite, and reads as infinite: worse than any number."""
    record = dict(json.loads(line))
    return {name: math.inf if value is None and name in MEASURED else value for name, value in record.items()}


def write_run_file(path: Path, content: bytes) -> None:
    """Put a file in its place, or in that of an older one, as `atomic.write_file` does.

    Raises:
        RunError: the disk is full, or another failure of the file system.
    """
    try:
        atomic.write_file(path, content)
    except OSError as error:
        raise RunError(f"{path} could not be written ({error.strerror or error}).") from None
