"""The one printer of the commands: lines that fit the terminal, broken between words, with a hanging indent.

A file or a pipe has no width, and gets every line as it is. Widths are counted in cells: a Chinese character takes two.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

from rich.cells import cell_len

NARROWEST = 20
"""Cells that are left for words beside a hanging indent, and half of the line at least."""
TAB = 4
"""Cells from one stop of a tab to the next."""
_GAP = re.compile(r"(?<=\S) {2,}(?=\S)|^\s*[-!*→>] (?=\S)|^\s+")
"""What further lines are set below: what follows a gap between columns, or a sign, or the line's own indent."""


def width_of(stream: TextIO) -> int:
    """Return the cells in a line of the terminal that a stream writes to; 0 where it writes to none."""
    try:
        return shutil.get_terminal_size().columns if stream.isatty() else 0
    except ValueError:  # it is closed
        return 0


def show(text: str, *, file: TextIO | None = None, end: str = "\n") -> None:
    """Print a text for a person, on stdout or another stream."""
    stream = sys.stdout if file is None else file
    print(fit(text, width_of(stream)), file=stream, end=end, flush=True)


def fit(text: str, width: int) -> str:
    """Return a text whose lines are at most `width` cells wide; 0: as it is. Nothing is lost but spaces at a break."""
    if width <= 0:
        return text
    # A tab is as wide as the terminal likes; spaces are not.
    return "\n".join(piece for line in text.expandtabs(TAB).split("\n") for piece in _broken(line, width))


def _broken(line: str, width: int) -> Iterator[str]:
    """Yield a line in pieces that fit."""
    if cell_len(line) <= width:
        yield line
        return
    most = width - max(NARROWEST, width // 2)
    gaps = [match.end() for match in _GAP.finditer(line) if cell_len(line[: match.end()]) <= most]
    first = line[: max(gaps, default=0)]
    words, hang = line[len(first) :], " " * cell_len(first)
    piece = first
    empty = True
    for word in re.split(r" +", words.rstrip(" ")):
        gap = "" if empty else " "
        if not empty and cell_len(piece) + 1 + cell_len(word) > width:
            yield piece.rstrip(" ")
            piece, gap = hang, ""
        while cell_len(piece) + cell_len(gap + word) > width:  # a word that is longer than a line
            count = _fitting(word, width - cell_len(piece + gap))
            yield piece + gap + word[:count]
            word, piece, gap = word[count:], hang, ""
        piece, empty = piece + gap + word, False
    yield piece.rstrip(" ")


def _fitting(word: str, room: int) -> int:
    """Return how many characters of a word fit; at least one, as something must be written."""
    count, used = 0, 0
    for character in word:
        used += cell_len(character)
        if used > room:
            break
        count += 1
    return max(1, count)


class Streamed:
    """A text that is written piece by piece: a word that would cross the edge of the terminal begins the next line."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def push(self, piece: str) -> str:
        """Return what can be written now; the last word waits for its end."""
        if not self._width:
            return piece
        *parts, self._word = re.split(r"(\s)", self._word + piece)
        return "".join(map(self._place, parts))

    def flush(self) -> str:
        """Return the last word."""
        word, self._word = self._word, ""
        return self._place(word)

    def _place(self, part: str) -> str:
        if part == "\n":
            self._column = 0
            return part
        size = cell_len(part)
        broken = self._column > 0 and self._column + size > self._width
        if broken and part.isspace():
            return ""  # at the edge; the next word begins a line
        self._column = size if broken else self._column + size
        if self._column > self._width:  # longer than a line: the terminal breaks it
            self._column %= self._width
        return f"\n{part}" if broken else part
