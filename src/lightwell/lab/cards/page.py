"""A card as one page of HTML that needs nothing else: pictures are in it, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lightwell.lab.cards import shown
from lightwell.lab.cards.card import Card

STYLE = """
:root { color-scheme: light; --ink: #222; --grey: #6e6e6e; --line: #e2e2e2; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: #fff; max-width: 60rem; margin: 0 auto;
  padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 2.5rem 0 .5rem; }
blockquote { margin: .5rem 0; padding: .25rem 1rem; border-left: 4px solid var(--line); font-style: italic; }
.verdict { display: inline-block; margin: .75rem 0; padding: .4rem .9rem; border-radius: .4rem; font-weight: 600;
  color: #fff; background: #4c4c4c; }
.supported { background: #00694f; } .contradicted { background: #a84300; } .conditional { background: #00578a; }
figure { margin: 1.25rem 0; } figure svg { width: 100%; height: auto; }
figcaption, .made { color: var(--grey); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; } .broken { color: #a84300; font-weight: 600; }
"""


def page(cards: Sequence[tuple[Card, Path]], title: str) -> str:
    """Return some cards, each with the folder that its pictures lie in, as one page.

    Raises:
        OSError: a picture cannot be read.
    """
    body = "\n".join(_article(card, folder) for card, folder in cards)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _article(card: Card, folder: Path) -> str:
    note, findings = card.note, card.findings
    parts = [
        f'<article id="{escape(folder.name)}">',
        f"<h1>{escape(note.title)}</h1>",
        f"<blockquote>{escape(note.sentence)}</blockquote>",
        f'<p class="verdict {escape(card.kind.replace(" ", "-"))}">{escape(card.headline)}</p>',
        f"<p><strong>Predicted before the run.</strong> {escape(note.prediction)}</p>",
    ]
    for name, caption in card.pictures:
        drawn = _inline(folder / f"{name}.svg", caption)
        parts.append(f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>")
    parts += [_table(head, rows) for head, rows in shown.tables(card)]
    parts += [
        f"<p><strong>What the note leaves out.</strong> {escape(note.leaves_out)}</p>",
        f"<p><strong>When it flips.</strong> {escape(note.flips)}</p>",
        *(f"<p>{escape(remark)}</p>" for remark in findings.remarks),
        f"<p><strong>In the code.</strong> <code>{escape(note.file)}</code>, <code>{escape(note.function)}</code></p>",
        f"<p><strong>Exercise.</strong> {escape(note.exercise)}</p>",
        f'<p class="made">{escape(shown.made_on(card))}</p><pre>{escape(card.command)}</pre>',
        "</article>",
    ]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    return f'<td class="broken">{text}</td>' if text == "broken" else f"<td>{escape(text)}</td>"


def _inline(path: Path, caption: str) -> str:
    """Return an SVG as an element of the page; card and picture are in its ids, so that no two share one."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^a-z0-9]", "", path.parent.name + path.stem)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{prefix}-\1"', text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(caption, quote=True)}"', 1)
