"""What all pictures of the lab have in common: style, colours, points with their interval, and how they are saved.

The same numbers give the same SVG, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightwell.errors import RunError
from lightwell.training.plot import FAINT, GREY, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightwell.lab.verdict import Claim

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#A6578A", "#8A6D00", "#4C4C4C"]
"""Of arms, in order: Okabe and Ito's, darkened where they are too light to read."""


@contextmanager
def drawing() -> Iterator[None]:
    """Within it, figures have the lab's style."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "axes.spines.right": False}):
        yield


def new_figure(title: str, subtitle: str = "", columns: int = 1, width: float = 9.0, height: float = 4.2) -> Figure:
    """An empty figure whose title says what is to be seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(1, columns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    if subtitle:
        figure.supxlabel(subtitle, x=0.01, ha="left", fontsize=8, color=GREY)
    for axes in figure.axes:
        axes.grid(True, color=FAINT, linewidth=0.7)
        axes.tick_params(length=0)
    return figure


def draw_claims(axes: Axes, claims: Sequence[Claim], unit: str = "") -> None:
    """Each claim's differences as points, their mean and its 95 % interval, beside 0 and the zone of no matter."""
    for place, claim in enumerate(reversed(claims)):
        verdict, colour = claim.verdict, COLOURS[(len(claims) - 1 - place) % len(COLOURS)]
        smallest = claim.rule.smallest
        axes.fill_betweenx([place - 0.35, place + 0.35], -smallest, smallest, color=FAINT, zorder=1, linewidth=0)
        if verdict.n >= 2:
            axes.plot([verdict.low, verdict.high], [place, place], color=colour, linewidth=2.2, zorder=3)
        axes.plot(
            claim.points, [place + 0.18] * len(claim.points), "o", color=colour, markersize=3.5, alpha=0.7, zorder=3
        )
        axes.plot([verdict.mean], [place], "D", color=colour, markersize=6, zorder=4)
    axes.axvline(0.0, color=GREY, linewidth=0.9, zorder=2)
    axes.set_yticks(range(len(claims)), [_broken(claim.text) for claim in reversed(claims)], color=INK)
    axes.set_ylim(-0.6, len(claims) - 0.4)
    axes.set_xlabel(unit or (claims[0].rule.unit if claims else ""))


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Two files, NAME.svg for documents and NAME.png for the eye.

    Raises:
        RunError: a file could not be written.
    """
    try:
        with drawing():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{name}.png", dpi=150)
    except OSError as error:
        raise RunError(f"The picture {folder / name} could not be written ({error.strerror or error}).") from None


def _broken(text: str, width: int = 38) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def first_axes(figure: Figure) -> Any:
    """The axes of a figure that has one, or all of them where it has more."""
    return figure.axes[0] if len(figure.axes) == 1 else figure.axes
