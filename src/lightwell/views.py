"""What a notebook and a prompt show of an object: a few lines of text, the same as a small table of HTML, a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightwell.arguments import checked
from lightwell.errors import RunError, SettingError
from lightwell.text.paths import expanded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")
_CELL = "text-align:left;padding:1px 12px 1px 0;font-weight:normal"

Rows = Sequence[tuple[str, str]]
"""Names and values, as people read them."""


def lines(title: str, rows: Rows) -> str:
    """Return a title and a line for each name with its value."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([title, *(f"  {name.ljust(width)}  {value}" for name, value in rows)])


def html(title: str, rows: Rows) -> str:
    """Return the same as HTML; whatever stands in it is shown as it is, and never becomes markup."""
    body = "".join(
        f'<tr><th style="{_CELL};opacity:.7">{escape(name)}</th><td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<div><b>{escape(title)}</b><table>{body}</table></div>"


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML, everything in it escaped."""
    first = "".join(f'<th style="{_CELL};opacity:.7">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{first}</tr>{body}</table>"


class Picture:
    """A figure that a notebook shows, and that can be saved."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        """The figure of matplotlib, for whoever wants to change it."""

    @checked
    def save(self, path: str | Path) -> Path:
        """Write it as .png, .svg or .pdf, and return the path.

        Raises:
            SettingError: another ending, or something is there already.
            RunError: it cannot be written.
        """
        path = expanded(path)
        if path.suffix not in PICTURES:
            raise SettingError(f"{path} must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}.")
        if path.exists():
            raise SettingError(f"{path} exists already; give another name, or remove it.")
        try:
            self.figure.savefig(path, dpi=150)
        except OSError as error:
            raise RunError(f"{path} could not be written ({error.strerror or error}).") from None
        return path

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return "Picture: .save(path) writes it; a notebook shows it"


def number(value: Any, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"
