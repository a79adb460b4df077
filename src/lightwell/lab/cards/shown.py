"""A card as text: Markdown for a file, and plain lines for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lightwell.lab.cards.card import Card
from lightwell.lab.verdicts.verdict import NATS, Claim, Kind

WIDTH = 100
KINDS: dict[Kind, str] = {
    "supported": "Supported",
    "contradicted": "Contradicted",
    "no difference": "No difference",
    "not settled": "Not settled",
}
"""The verdicts on a claim, in the order in which a reason names them."""


def markdown(card: Card) -> str:
    """Return the card in Markdown, with its pictures."""
    note = card.note
    parts = [
        f"# {note.title}",
        f"> {note.sentence}",
        f"**Verdict: {card.headline}.** {_literal(reason(card))}",
        f"*Predicted before the run:* {note.prediction}",
    ]
    parts += [f"![{caption}]({name}.svg)\n\n*{caption}*" for name, caption in card.pictures]
    parts += [_table(head, rows) for head, rows in tables(card)]
    parts += [f"**What the note leaves out.** {note.leaves_out}", f"**When it flips.** {note.flips}"]
    parts += [f"- {_literal(remark)}" for remark in card.findings.remarks]
    parts += [
        f"**In the code:** `{note.file}`, `{note.function}`",
        f"**Exercise.** {note.exercise}",
        f"{made_on(card)}\n\n```sh\n{card.command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def tables(card: Card) -> list[tuple[list[str], list[list[str]]]]:
    """Return heads and rows of the tables that there are: claims that decide, claims beside the note, and laws."""
    tables = []
    about, beside = (claims_of(card, beside) for beside in (False, True))
    for title, claims in (("what the note claims", about), ("beside the note", beside)):
        rows = [[claim.text, interval(claim, card.bits), points(claim), outcome(claim)] for claim in claims]
        tables.append(([title, "difference, 95 % interval", "each seed", "verdict"], rows))
    laws = [[law.text, law.shown, law.expected, "holds" if law.holds else "broken"] for law in card.findings.laws]
    tables.append((["law", "measured", "expected", ""], laws))
    return [(head, rows) for head, rows in tables if rows]


def claims_of(card: Card, beside: bool) -> list[Claim]:
    """Return the claims about what the note says, or those beside it."""
    return [claim for claim in card.findings.claims if claim.beside == beside]


def reason(card: Card) -> str:
    """Return in a sentence where the verdict comes from: broken laws, else the claims about the note, else the laws."""
    laws, claims = card.findings.laws, claims_of(card, beside=False)
    if broken := [f"{law.text}: {law.shown}, expected {law.expected}" for law in laws if not law.holds]:
        return f"Broken: {'; '.join(broken)}."
    found = {kind: [claim for claim in claims if claim.verdict.kind == kind] for kind in KINDS}
    parts = [
        f"{KINDS[kind]}: {'; '.join(f'{claim.text} ({claim.verdict.sentence})' for claim in some)}."
        for kind, some in found.items()
        if some
    ]
    if parts:
        return " ".join(parts) if len(parts) > 1 else parts[0].partition(": ")[2]
    return f"All {len(laws)} laws hold, the first of them: {laws[0].text}: {laws[0].shown}." if laws else ""


def plain(card: Card) -> str:
    """Return the card for a terminal."""
    note = card.note
    lines = ["", f"{note.title}: {card.headline}", *_wrapped(f'"{note.sentence}"', "  ")]
    lines += ["", *_wrapped(f"predicted  {note.prediction}", "  ")]
    for beside in (False, True):
        claims = claims_of(card, beside)
        if beside and claims:
            lines += ["", "  Beside the note:"]
        for claim in claims:
            lines += ["", *_wrapped(claim.text, "  "), f"    {interval(claim, card.bits)}: {outcome(claim)}"]
            lines += _wrapped(f"each seed: {points(claim)}", "    ")
    if card.findings.laws:
        lines.append("")
    for law in card.findings.laws:
        lines += _wrapped(
            f"{'holds' if law.holds else 'BROKEN'}  {law.text}: {law.shown} (expected: {law.expected})", "  "
        )
    lines += ["", *_wrapped(f"leaves out  {note.leaves_out}", "  "), *_wrapped(f"flips       {note.flips}", "  ")]
    lines += [f"  code        {note.file}: {note.function}", *_wrapped(f"exercise    {note.exercise}", "  ")]
    lines += ["", *(line for remark in card.findings.remarks for line in _wrapped(f"- {remark}", "  "))]
    lines += ["", *_wrapped(made_on(card), "  ")]
    return "\n".join(lines)


def interval(claim: Claim, bits: float) -> str:
    """Return the mean difference and its interval; bits: bits per byte of a nat per token."""
    verdict = claim.verdict
    if verdict.n < 2:
        return f"{verdict.mean:+.4g}"
    words = f"{verdict.mean:+.4g} [{verdict.low:+.4g}, {verdict.high:+.4g}] {claim.rule.unit}"
    return f"{words} ({verdict.mean * bits:+.3g} bits per byte)" if claim.rule.unit == NATS else words


def points(claim: Claim) -> str:
    """Return every difference, seed by seed."""
    return ", ".join(f"{point:+.4g}" for point in claim.points)


def outcome(claim: Claim) -> str:
    """Return the verdict on a claim."""
    verdict = claim.verdict
    doubt = " (exploratory)" if verdict.exploratory and verdict.kind in ("supported", "contradicted") else ""
    return verdict.sentence if verdict.kind == "no difference" else f"{verdict.kind}{doubt}: {verdict.sentence}"


def made_on(card: Card) -> str:
    """Return the machine and the text, in a sentence."""
    where = card.provenance
    return (
        f"Lightwell {where['lightwell']}, budget {card.budget}, {card.seeds} seeds from {where['seed']} on; "
        f"{where['processor']}, {where['threads']} thread{'s' if where['threads'] != 1 else ''}, "
        f"torch {where['torch']}, {where['dtype']}; a model of {where['parameters']:,} parameters on "
        f"{where['tokens']:,} tokens of {where['text']}."
    )


def overview(cards: Sequence[tuple[Card, Path]]) -> str:
    """Return the table of some cards, each with its folder, in Markdown."""
    rows = [
        f"| [{card.note.title}]({folder.name}/card.md) | {card.note.sentence} | {card.headline} | {card.budget} |"
        for card, folder in cards
    ]
    return (
        "\n".join(["| note | as it was written down | verdict | budget |", "| --- | --- | --- | --- |", *rows]) + "\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_literal(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _literal(text: str) -> str:
    """Return words that Markdown shows as they are, in a cell as well."""
    return re.sub(r"([|<>`*_\[\]\\])", r"\\\1", text)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
