"""What preparing a large corpus came to, in sentences: what was read, left out, held out and encoded."""

from __future__ import annotations

from collections.abc import Sequence

from lightwell.corpus.manifest import Side
from lightwell.corpus.units.cutting import DOCUMENT_BYTES
from lightwell.corpus.units.reading import Findings
from lightwell.errors import TextError
from lightwell.text.decoding import Undecodable
from lightwell.text.documents import NAMES_SHOWN, ReadReport, Skipped, count_of
from lightwell.tokens.tokenizer import Tokenizer


def sentences(
    findings: Findings,
    skipped: Sequence[tuple[str, str]],
    tokenizer: Tokenizer,
    sampled: int,
    train: Side,
    held_out: Side,
) -> list[str]:
    """Return the report, the most important first.

    Args:
        findings: what reading came upon in all units.
        skipped: names and reasons of files that are in no unit.
        tokenizer: what encoded.
        sampled: bytes of text that it was trained on, 0 where it was not trained.
        train, held_out: the two sides.

    Raises:
        TextError: the tokenizer made nothing of one of the sides.
    """
    for name, side in (("training", train), ("held-out", held_out)):
        if side.tokens == side.documents + 1:  # only the tokens between documents
            raise TextError(
                f"The tokenizer makes no tokens at all of the {side.text_bytes:,} bytes of {name} text; "
                "choose one that was made for such text, or --tokenizer bpe."
            )
    return [*_reading(findings, skipped), _split(train, held_out), *_encoding(tokenizer, sampled, train, held_out)]


def _reading(findings: Findings, skipped: Sequence[tuple[str, str]]) -> list[str]:
    undecodable = _by_source(findings.undecodable)
    report = ReadReport(findings.files, findings.documents, findings.bytes, undecodable=undecodable[:NAMES_SHOWN])
    report.skipped = [*(Skipped(name, reason) for name, reason in skipped), *findings.skipped]
    report.remarks = findings.remarks
    lines = report.sentences()
    if len(undecodable) > NAMES_SHOWN:
        lines.insert(1 + NAMES_SHOWN, f"So are {len(undecodable) - NAMES_SHOWN:,} more files.")
    if findings.empty_records:
        lines.insert(1, f"{count_of(findings.empty_records, 'record')} had no text.")
    if findings.cut:
        names = ", ".join(findings.cut[:NAMES_SHOWN])
        more = f" and {len(findings.cut) - NAMES_SHOWN:,} more" if len(findings.cut) > NAMES_SHOWN else ""
        size = f"{DOCUMENT_BYTES >> 20} MiB"
        lines.insert(1, f"Taken as documents of about {size}, cut where a line ends, as too large: {names}{more}.")
    return lines


def _by_source(undecodable: Sequence[Undecodable]) -> list[Undecodable]:
    """Return one for each file, whose ranges have one each."""
    merged: dict[tuple[str, bool], Undecodable] = {}
    for item in undecodable:
        key = (item.source, item.halves)
        first = merged.get(key, item)
        count = item.count + (first.count if key in merged else 0)
        merged[key] = Undecodable(item.source, count, first.first_offset, item.halves)
    return list(merged.values())


def _split(train: Side, held_out: Side) -> str:
    documents, total = train.documents + held_out.documents, train.text_bytes + held_out.text_bytes
    return (
        f"Held out {held_out.documents:,} of {documents:,} documents ({held_out.text_bytes / total:.1%} of the "
        "bytes), chosen by the hash of their text."
    )


def _encoding(tokenizer: Tokenizer, sampled: int, train: Side, held_out: Side) -> list[str]:
    text_bytes = train.text_bytes + held_out.text_bytes
    text_tokens = train.tokens + held_out.tokens - train.documents - held_out.documents - 2
    lines = [
        f"The {tokenizer.kind} tokenizer has {tokenizer.vocab_size:,} tokens, each {text_bytes / text_tokens:.2f} "
        f"bytes on average: {train.tokens:,} to train on and {held_out.tokens:,} held out."
    ]
    if sampled:
        lines.append(f"It was trained on {sampled:,} bytes of the training side, taken from all over the text.")
    return lines
