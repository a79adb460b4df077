"""Bytes become text: UTF-8, with what is not UTF-8 replaced and counted, and what is no text refused."""

from __future__ import annotations

from dataclasses import dataclass

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIDE_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
MOST_UNDECODABLE = 0.25
"""Share of a text that may be undecodable; beyond it hardly a word would be left. Western text in Latin-1 has 0.05."""
NAMES_SHOWN = 20
"""Fields or columns that a sentence spells out before it says how many more there are."""


class UnreadableError(Exception):
    """A file that is not readable text: "FILE {reason}; {remedy}." It is an error or a skip, as the caller decides."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Undecodable:
    """Bytes of one file that are not UTF-8. Each sequence of them became one U+FFFD in the text."""

    source: str
    """The file, or "file:record" of the first record with such bytes."""
    count: int
    """Byte sequences replaced."""
    first_offset: int
    """Byte offset of the first one, in the uncompressed file or in that record's text."""
    halves: bool = False
    """Whether they are halves of characters that JSON spelt, and no bytes."""

    def sentence(self) -> str:
        """Return what to tell about it."""
        many = "s" if self.count > 1 else ""
        if self.halves:
            return (
                f"{self.source} spells half a character (\\ud800 to \\udfff alone) {self.count:,} time{many}, "
                "which became U+FFFD; whatever wrote it cut a text inside a character."
            )
        return (
            f"{self.source} is not all UTF-8: {self.count:,} byte sequence{many} became U+FFFD, "
            f"the first at byte {self.first_offset:,}; convert the file to UTF-8 to keep them."
        )


@dataclass
class Decoding:
    """What one file held that is not UTF-8: how many byte sequences, and where the first one was."""

    count: int = 0
    first_source: str = ""
    first_offset: int = 0

    def decode(self, data: bytes, source: str, position: int = 0) -> str:
        """Return the text of `data`; each maximal undecodable sequence becomes one U+FFFD and is counted (Unicode 16,
        3.9).

        position: where `data` stands in what the offset is counted from.
        """
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            # 0xEF always begins a new sequence, so a U+FFFD that the file itself holds is known by its three bytes.
            self._add(text.count("\ufffd") - data.count(b"\xef\xbf\xbd"), source, position + error.start)
            return text

    def clean(self, text: str, source: str) -> str:
        """Return `text` without lone surrogates: JSON can spell halves of a character that no UTF-8 stands for."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self._add(sum("\ud800" <= c <= "\udfff" for c in text), source, len(text[: error.start].encode()))
            return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        return text

    def _add(self, count: int, source: str, offset: int) -> None:
        if not self.count:
            self.first_source, self.first_offset = source, offset
        self.count += count


def refuse_binary(data: bytes, *, first: bool) -> None:
    """Make sure that the bytes may be those of a text.

    first: whether they are the first ones of their file.

    Raises:
        UnreadableError: they are UTF-16, or hold a zero byte.
    """
    if first and data.startswith(WIDE_BYTE_ORDER_MARKS):
        raise UnreadableError("is UTF-16 text", "convert it to UTF-8")
    if b"\0" in data:
        raise UnreadableError("is binary", "name a file that holds text")


def empty_file() -> UnreadableError:
    """Return what to say of a file without text."""
    return UnreadableError("is empty", "name a file that holds text")


def several(column: str, count: int) -> UnreadableError:
    """Return what to say of a table in which more than one column has the wanted name."""
    return UnreadableError(f"has {count} columns called {column}", "give each column another name")


def missing(noun: str, field: str, there: list[str], where: str = "") -> UnreadableError:
    """Return what to say of a field or column that is not there."""
    names = ", ".join(there[:NAMES_SHOWN]) or "none"
    more = f" and {len(there) - NAMES_SHOWN:,} more" if len(there) > NAMES_SHOWN else ""
    remedy = f"name the {noun} that holds the text with --text-field"
    return UnreadableError(f"has no {noun} {field}{where}, only {names}{more}", remedy)
