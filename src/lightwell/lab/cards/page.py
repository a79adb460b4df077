"""Cards as one page of HTML that needs nothing else: pictures are in it, and nothing is fetched.

A page of several begins with every note, its verdict and the reason for it. Seeds, laws and fine print are folded
away; on a narrow page pictures have their panels one below another.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lightwell.lab.cards import shown
from lightwell.lab.cards.card import Card
from lightwell.lab.cards.figures import NARROW_SUFFIX
from lightwell.lab.cards.style import STYLE
from lightwell.lab.verdicts.verdict import Claim


def page(cards: Sequence[tuple[Card, Path]], title: str) -> str:
    """Return some cards, each with the folder that its pictures lie in, as one page; several have a list before them.

    Raises:
        OSError: a picture cannot be read.
    """
    body = "\n".join(_article(card, folder) for card, folder in cards)
    if len(cards) > 1:
        back = '<p><a href="#top">Back to the list of notes</a></p>\n</article>'
        body = f"{_head(cards, title)}\n{body.replace('</article>', back)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(cards: Sequence[tuple[Card, Path]], title: str) -> str:
    """Return every note with a link to its card, its verdict, what it says, and where the verdict comes from."""
    several = len({card.budget for card, _ in cards}) > 1
    rows = []
    for card, folder in cards:
        budget = f' <span class="grey">{escape(card.budget)}</span>' if several else ""
        rows.append(
            f'<li><div><a href="#{escape(folder.name)}">{escape(card.note.title)}</a>{budget}<br>{_badge(card)}</div>'
            f'<div><p class="said">{escape(card.note.sentence)}</p><p>{escape(shown.reason(card))}</p></div></li>'
        )
    return (
        f'<header id="top">\n<h1>{escape(title)}</h1>\n<p>Each note is an experiment: a prediction before the run, '
        "trainings that differ in their seed, and a verdict by a fixed rule. Losses are in nats per token; lower is "
        "better.</p>\n"
        f'<nav aria-label="Contents"><ol class="notes">\n{chr(10).join(rows)}\n</ol></nav>\n</header>'
    )


def _article(card: Card, folder: Path) -> str:
    note, findings = card.note, card.findings
    parts = [
        f'<article id="{escape(folder.name)}">',
        f"<h2>{escape(note.title)}</h2>",
        f"<blockquote>{escape(note.sentence)}</blockquote>",
        f'<div class="judged">{_badge(card)}<p>{escape(shown.reason(card))}</p></div>',
        f"<p><strong>Predicted before the run.</strong> {escape(note.prediction)}</p>",
        *(_figure(folder, name, caption) for name, caption in card.pictures),
        _claims("what the note claims", shown.claims_of(card, beside=False), card),
        _claims("beside the note", shown.claims_of(card, beside=True), card),
        _laws(card),
        f"<p><strong>What the note leaves out.</strong> {escape(note.leaves_out)}</p>",
        f"<p><strong>When it flips.</strong> {escape(note.flips)}</p>",
        f"<p><strong>In the code.</strong> <code>{escape(note.file)}</code>, <code>{escape(note.function)}</code></p>",
        f"<p><strong>Exercise.</strong> {escape(note.exercise)}</p>",
        _folded("How it was measured", "".join(f"<p>{escape(words)}</p>" for words in findings.remarks)
                + f'<p class="grey">{escape(shown.made_on(card))}</p>'),
        f"<pre>{escape(card.command)}</pre>",
        "</article>",
    ]  # fmt: skip
    return "\n".join(filter(None, parts))


def _badge(card: Card) -> str:
    return f'<span class="verdict {escape(card.kind.replace(" ", "-"))}">{escape(card.headline)}</span>'


def _claims(title: str, claims: Sequence[Claim], card: Card) -> str:
    """Return claims with their intervals and verdicts, and every seed's point folded away below them."""
    if not claims:
        return ""
    rows = [[claim.text, shown.interval(claim, card.bits), shown.outcome(claim)] for claim in claims]
    seeds = [[claim.text, shown.points(claim)] for claim in claims]
    return "\n".join(
        [
            _table([title, "difference, 95 % interval", "verdict"], rows),
            _folded(f"Each seed, {title}", _table(["claim", "each seed"], seeds)),
        ]
    )


def _laws(card: Card) -> str:
    """Return the laws, folded away unless one is broken."""
    laws = card.findings.laws
    rows = [[law.text, law.shown, law.expected, "holds" if law.holds else "broken"] for law in laws]
    broken = sum(not law.holds for law in laws)
    count = f"{len(laws)} law{'s' if len(laws) != 1 else ''}"
    table = _table(["law", "measured", "expected", "outcome"], rows)
    if broken:
        return f"<p>{count}, {broken} broken:</p>{table}"
    return _folded(f"{count}, all hold", table) if laws else ""


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(map(_cell, row, head)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str, head: str) -> str:
    """Return a cell that knows its column's head, for pages too narrow for columns."""
    kind = ' class="broken"' if text == "broken" else ""
    return f'<td{kind} data-head="{escape(head, quote=True)}">{escape(text)}</td>'


def _figure(folder: Path, name: str, caption: str) -> str:
    """Return a picture with its caption: panels side by side, and, where that was drawn, stacked for narrow pages."""
    stacked, words = folder / f"{name}{NARROW_SUFFIX}", escape(caption, quote=True)
    narrow = ""
    if stacked.is_file():
        data = base64.b64encode(stacked.read_bytes()).decode()
        narrow = f'<img class="narrow" alt="{words}" src="data:image/webp;base64,{data}" />'
    wide = f'<div class="wide">{_inline(folder / f"{name}.svg", caption)}</div>'
    return f"<figure>{narrow}{wide}<figcaption>{escape(caption)}</figcaption></figure>"


def _inline(path: Path, caption: str) -> str:
    """Return an SVG as an element of the page; card and picture are in its ids, so that no two share one."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^a-z0-9]", "", path.parent.name + path.stem)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{prefix}-\1"', text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(caption, quote=True)}"', 1)
