"""What a note says, in words that are written before a run and that no run changes.

There is no torch here, so that notes are listed at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """The words of an experiment."""

    name: str
    """The name on the command line, that of the note's folder with - for _."""
    title: str
    sentence: str
    """The note itself, as a reader wrote it down."""
    prediction: str
    """What should be measured if it is right, in numbers where there are any."""
    leaves_out: str
    """What is true beside it."""
    flips: str
    """The condition under which it is wrong."""
    file: str
    """Where Lightwell does it, e.g. "model/attention.py"."""
    function: str
    """The function or class in that file."""
    exercise: str
    """What to try next, with a command."""
    number: int = 0
    """The place among the notes, in the order in which a reader meets them; it is not on the card."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the number."""
        plain = asdict(self)
        del plain["number"]
        return plain
