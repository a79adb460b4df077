"""Documents become a training and a held-out side, before anything is cut into windows.

The side of a document follows from its text alone (its SHA-256), so that it depends on no seed and on no order, equal
documents are never on both sides, and adding a document moves hardly any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightwell.errors import TextError
from lightwell.text.documents import Document

TOLERANCE = 0.25
"""Whole documents are held out where their bytes come within this share of the bytes wanted; else one is cut."""
LINE_SEARCH = 2000
"""Bytes on either side of a cut in which the end of a line is looked for."""


@dataclass(frozen=True)
class Split:
    """The two sides, and a sentence that says how they were made.

    The training side keeps the order in which the documents came. The held-out side is in the order of SHA-256, so that
    its first tokens, which is all that an evaluation may have time for, are a fair sample of it: the first held-out
    chapters of a book would be those of its beginning.
    """

    train: list[Document]
    held_out: list[Document]
    how: str


def split_documents(documents: Sequence[Document], fraction: float) -> Split:
    """Hold out about `fraction` of the bytes.

    Documents are held out in the order of their SHA-256 while the sum stays near the bytes wanted. Where the next
    one is too large to come near (a single document, or huge ones), its end is held out instead, cut after a line where
    one ends nearby and never inside a character. No side is ever empty.

    Raises:
        TextError: the text is too small to be on two sides.
    """
    alike: dict[bytes, list[Document]] = {}
    for document in documents:
        alike.setdefault(document.digest, []).append(document)
    wanted = fraction * sum(document.size for document in documents)
    order = sorted(alike)
    held_out: set[bytes] = set()
    taken = 0
    for digest in order[:-1]:  # the last group stays, or is cut: the training side is never empty
        size = sum(document.size for document in alike[digest])
        over = taken + size - wanted
        if over > min(wanted - taken, wanted * TOLERANCE):  # further away with it than without it, or too far
            break
        held_out.add(digest)
        taken += size
    if taken >= wanted * (1 - TOLERANCE):
        return _by_documents(documents, held_out, taken)
    following = order[len(held_out)]
    return _with_tail(documents, held_out, following, (wanted - taken) / len(alike[following]))


def _by_documents(documents: Sequence[Document], held_out: set[bytes], taken: int) -> Split:
    """Hold out the documents with these digests, which have `taken` bytes."""
    train = [document for document in documents if document.digest not in held_out]
    side = _shuffled(document for document in documents if document.digest in held_out)
    total = sum(document.size for document in documents)
    how = (
        f"Held out {len(side):,} of {len(documents):,} documents ({taken / total:.1%} of the bytes), "
        "chosen by the hash of their text."
    )
    return Split(train, side, how)


def _with_tail(documents: Sequence[Document], held_out: set[bytes], cut: bytes, tail_bytes: float) -> Split:
    """Hold out whole documents, and the tail of each document whose digest is `cut`."""
    train: list[Document] = []
    side: list[Document] = []
    name, blank = "", 0
    for document in documents:
        if document.digest in held_out:
            side.append(document)
        elif document.digest != cut:
            train.append(document)
        else:
            head, tail = _cut(document, tail_bytes)
            blank = len(tail)
            tail = without_blank_end(tail)
            blank -= len(tail)
            train.append(Document(document.source, head))
            side.append(Document(document.source, tail))
            name = document.source
    total = sum(document.size for document in documents)
    share = sum(document.size for document in side) / total
    uncut = len(side) - sum(document.digest == cut for document in documents)
    beside = f"{uncut:,} whole document{'s' if uncut > 1 else ''} and " if uncut else ""
    how = f"Held out {beside}the end of {name} ({share:.1%} of the bytes), because whole documents are too large."
    if len(documents) == 1:
        how = f"Held out the last {share:.1%} of {name}."
    if blank:
        how += f" {blank:,} blank characters at its end are left out."
    return Split(train, _shuffled(side), how)


def _shuffled(documents: Iterable[Document]) -> list[Document]:
    """Return the documents in the order of their hash, which is as good as chance and always the same."""
    return sorted(documents, key=lambda document: document.digest)


def _cut(document: Document, tail_bytes: float) -> tuple[str, str]:
    """Return head and tail of a text, the tail of about `tail_bytes` bytes; both hold at least one character.

    Raises:
        TextError: it has fewer than two characters before its blank end.
    """
    if len(document.text.rstrip()) < 2:
        raise TextError(
            f"{document.source} is too short to hold a part out for validation; give more text than {document.text!r}."
        )
    data = document.text.encode()
    # What is held out is text: blank lines at the end are no part of what is counted, and would be easy to foretell.
    size, solid = len(without_blank_end(document.text).encode()), len(document.text.rstrip().encode())
    at = min(max(round(size - tail_bytes * size / len(data)), 1), solid - 1)
    at = min(_line_start_near(data[:size], at), solid - 1)
    while at > 0 and data[at] & 0xC0 == 0x80:  # 10xxxxxx goes on with a character
        at -= 1
    if at == 0:  # the first character is the head
        at = len(document.text[0].encode())
    return data[:at].decode(), data[at:].decode()


def without_blank_end(text: str) -> str:
    """Return a text without the blank lines at its end, but with the end of its last line."""
    kept = text.rstrip()
    rest = text[len(kept) :]
    end = rest.find("\n") + 1
    return kept + rest[:end] if end and len(rest) > end else text


def _line_start_near(data: bytes, at: int) -> int:
    """Return the start of a line nearest to `at`, or `at` where none is near.

    Near is within `LINE_SEARCH` bytes, and within a quarter of what is on either side, so that neither loses more.
    """
    reach = min(LINE_SEARCH, min(at, len(data) - at) // 4)
    before = data.rfind(b"\n", at - reach, at) + 1
    after = data.find(b"\n", at, at + reach) + 1
    near = [start for start in (before, after) if 0 < start < len(data)]
    return min(near, key=lambda start: abs(start - at), default=at)
