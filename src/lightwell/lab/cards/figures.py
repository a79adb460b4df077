"""What all pictures of the lab have in common: style, colours, points with their interval, and how they are saved.

The same numbers give the same SVG, byte for byte. Each picture is drawn twice: with its panels side
by side, and, for a narrow page, one below another.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from lightwell.errors import RunError
from lightwell.training.runs.plot import FAINT, GREY, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ["#0072B2", "#D55E00", "#009E73", "#A6578A", "#8A6D00", "#4C4C4C"]
"""The colours of arms, in order: Okabe and Ito's, darkened where they are too light to read."""


NARROW, PANEL, TITLE = 4.6, 3.4, 0.6
"""Inches: the width of a picture for a narrow page, the height of each of its panels, and that of the words around."""
NARROW_SUFFIX = "-narrow.webp"
"""What the file of such a picture has behind the picture's name; of all that browsers read it is the smallest."""
_stacked: ContextVar[bool] = ContextVar("stacked", default=False)


@contextmanager
def drawing() -> Iterator[None]:
    """Give figures the lab's style within it."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "axes.spines.right": False}):
        yield


@contextmanager
def stacking() -> Iterator[None]:
    """Let the panels of new figures stand one below another within it, for a narrow page."""
    before = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(before)


def new_figure(
    title: str,
    subtitle: str = "",
    columns: int = 1,
    width: float = 9.0,
    height: float = 4.2,
    narrow: float = NARROW,
) -> Figure:
    """Return an empty figure of so many panels (`Figure.axes`) whose title says what is to be seen.

    width, height: in inches, with the panels side by side. narrow: the width within `stacking`, where the height
    follows from the number of panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 1
    if _stacked.get():
        rows, columns, width, height = columns, 1, narrow, columns * PANEL + TITLE
        title, subtitle = textwrap.fill(title, round(9.5 * narrow)), textwrap.fill(subtitle, round(13 * narrow))
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(rows, columns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    if subtitle:
        figure.supxlabel(subtitle, x=0.01, ha="left", fontsize=8, color=GREY)
    for axes in figure.axes:
        axes.grid(True, color=FAINT, linewidth=0.7)
        axes.tick_params(length=0)
    return figure


LACKING = "\u25a1"
LACKING_WORDS = f" {LACKING} stands for a sign that this picture's font lacks."


@functools.cache
def _signs() -> frozenset[int]:
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())


def drawable(text: str) -> str:
    """Return a user's text with a square for each sign that the font lacks, and dollar signs that begin no formula."""
    shown = "".join(sign if ord(sign) in _signs() or sign.isspace() else LACKING for sign in text)
    return shown.replace("$", r"\$")


def draw_paired(axes: Axes, losses: Sequence[Sequence[float]], colour: str) -> list[float]:
    """Draw paired runs, a place for each arm: a line for each seed, and a diamond at each mean.

    losses (arms, seeds). Return the means.
    """
    places, means = range(len(losses)), [sum(arm) / len(arm) for arm in losses]
    for seed in zip(*losses, strict=True):
        axes.plot(places, seed, "o-", color=colour, linewidth=0.7, alpha=0.5, markersize=3.5)
    axes.plot(places, means, "D", color=colour, markersize=9, markerfacecolor="none", zorder=4)
    return means


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write two files, NAME.svg for documents and NAME.png for the eye.

    Raises:
        RunError: a file could not be written.
    """
    with _writing(folder / name):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", dpi=150)


def save_stacked(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME-narrow.webp, of a figure that was made within `stacking`.

    Raises:
        RunError: the file could not be written.
    """
    with _writing(folder / name):
        figure.savefig(folder / f"{name}{NARROW_SUFFIX}", dpi=180, pil_kwargs={"quality": 75})


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        with drawing():
            yield
    except OSError as error:
        raise RunError(f"The picture {path} could not be written ({error.strerror or error}).") from None
