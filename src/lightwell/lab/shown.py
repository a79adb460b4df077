"""A card as text: Markdown for a file, and plain lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lightwell.lab.card import Card
from lightwell.lab.verdict import Claim, Law

WIDTH = 100


def markdown(card: Card) -> str:
    """The whole card, with its pictures."""
    note = card.note
    parts = [
        f"# {note.title}",
        f"> {note.sentence}",
        f"**Verdict: {card.headline}.**",
        f"*Predicted before the run:* {note.prediction}",
    ]
    parts += [f"![{caption}]({name}.svg)\n\n*{caption}*" for name, caption in card.pictures]
    if card.findings.claims:
        rows = [
            f"| {claim.text} | {interval(claim)} | {points(claim)} | {outcome(claim)} |"
            for claim in card.findings.claims
        ]
        parts.append(
            "\n".join(
                ["| claim | difference, 95 % interval | each seed | verdict |", "| --- | --- | --- | --- |", *rows]
            )
        )
    if card.findings.laws:
        rows = [f"| {law.text} | {law.measured:.6g} | {law.expected} | {holds(law)} |" for law in card.findings.laws]
        parts.append("\n".join(["| law | measured | expected | |", "| --- | ---: | --- | --- |", *rows]))
    parts += [f"**What the note leaves out.** {note.leaves_out}", f"**When it flips.** {note.flips}"]
    parts += [f"- {remark}" for remark in card.findings.remarks]
    parts += [
        f"**In the code:** `{note.file}`, `{note.function}`",
        f"**Exercise.** {note.exercise}",
        f"{made_on(card)}\n\n```sh\n{card.command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def plain(card: Card) -> str:
    """The card for a terminal."""
    note = card.note
    lines = ["", f"{note.title}: {card.headline}", *_wrapped(f'"{note.sentence}"', "  ")]
    lines += ["", *_wrapped(f"predicted  {note.prediction}", "  ")]
    for claim in card.findings.claims:
        lines += ["", *_wrapped(claim.text, "  "), f"    {interval(claim)}: {outcome(claim)}"]
        lines += [f"    each seed: {points(claim)}"]
    if card.findings.laws:
        lines.append("")
    for law in card.findings.laws:
        lines += _wrapped(
            f"{'holds' if law.holds else 'BROKEN'}  {law.text}: {law.measured:.6g} ({law.expected})", "  "
        )
    lines += ["", *_wrapped(f"leaves out  {note.leaves_out}", "  "), *_wrapped(f"flips       {note.flips}", "  ")]
    lines += [f"  code        {note.file}: {note.function}", *_wrapped(f"exercise    {note.exercise}", "  ")]
    return "\n".join(lines)


def interval(claim: Claim) -> str:
    """The mean difference and its interval."""
    verdict = claim.verdict
    if verdict.n < 2:
        return f"{verdict.mean:+.4g}"
    return f"{verdict.mean:+.4g} [{verdict.low:+.4g}, {verdict.high:+.4g}] {claim.rule.unit}"


def points(claim: Claim) -> str:
    """Every difference."""
    return ", ".join(f"{point:+.4g}" for point in claim.points)


def outcome(claim: Claim) -> str:
    """The verdict on a claim."""
    kind = claim.verdict.kind
    return claim.verdict.sentence if kind == "no difference" else f"{kind}: {claim.verdict.sentence}"


def holds(law: Law) -> str:
    """Whether it does."""
    return "holds" if law.holds else "**broken**"


def made_on(card: Card) -> str:
    """The machine and the text, in a sentence."""
    where = card.provenance
    return (
        f"Budget {card.budget}, {card.seeds} seeds; {where['processor']}, {where['threads']} threads, "
        f"torch {where['torch']}, {where['dtype']}; a model of {where['parameters']:,} parameters on "
        f"{where['tokens']:,} tokens of {where['text']}."
    )


def overview(cards: Sequence[Card], folders: Sequence[str]) -> str:
    """The table of all notes, in Markdown."""
    rows = [
        f"| [{card.note.title}]({folder}/card.md) | {card.note.sentence} | {card.headline} | {card.budget} |"
        for card, folder in zip(cards, folders, strict=True)
    ]
    return (
        "\n".join(["| note | as it was written down | verdict | budget |", "| --- | --- | --- | --- |", *rows]) + "\n"
    )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
